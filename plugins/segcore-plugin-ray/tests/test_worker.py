"""What one process does, without Ray: groups that come again, images of which processes die, what stops a run."""

import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from segcore_plugin_predict import Finished, Job, ReadOptions, Worker
from segcore_plugin_ray.lines import Lines, read_lines
from segcore_plugin_ray.worker import ATTEMPTS, LOADING, Order, Predictor

from segcore import InputError, OptionValueError, PluginError

from .ray_jobs import checkpoint, label_maps, photographs


@pytest.fixture
def order(tmp_path):
    checkpoint(tmp_path / "model")
    photographs(tmp_path / "in", 3)
    (tmp_path / "out/work").mkdir(parents=True)
    job = Job(
        checkpoint=str(tmp_path / "model"),
        out=tmp_path / "out",
        probabilities=False,
        overlays=False,
        flips="",
        tile=None,
        overlap=None,
        blend="gaussian",
        batch=1,
        threshold=0.5,
        multilabel=None,
        reading=ReadOptions(),
        device="cpu",
        threads=1,
        again=False,
        quiet=True,
    )
    return Order(job, Worker(job).settings, tmp_path / "out/work", 1)


def ask(order, *names):
    """Return the answers to a group of images."""
    folder = order.job.out.parent / "in"
    batch = {
        "index": np.arange(len(names)) + 7,
        "path": np.array([str(folder / f"{name}.png").encode() for name in names], object),
        "name": np.array([name.encode() for name in names], object),
    }
    told = Predictor(order)(batch)
    assert told["index"] == list(range(7, 7 + len(told["answer"])))
    return [pickle.loads(answer) for answer in told["answer"]]


def journal(order, *events):
    with Lines(order.work / "group-7.jsonl") as file:
        for index, event, *more in events:
            file.add({"index": index, "event": event, "host": "other", "process": 1, **dict(more)})


def times(order):
    return {path.name: path.stat().st_mtime_ns for path in order.job.out.glob("*.png")}


def test_a_group_is_predicted_and_its_journal_tells_of_it(order):
    answers = ask(order, "00", "01", "02")
    assert all(answer.here and isinstance(answer.outcome, Finished) for answer in answers)
    assert set(label_maps(order.job.out)) == {"00.png", "01.png", "02.png"}
    told = list(read_lines(order.work / "group-7.jsonl"))
    assert [(line["index"], line["event"]) for line in told] == [
        (index, event) for index in (7, 8, 9) for event in ("begin", "done")
    ]
    assert {"host", "process", "seconds"} == set(answers[0].facts)
    assert [line["event"] for line in read_lines(order.work / LOADING)] == ["begin", "end"]


@pytest.mark.parametrize("again", [False, True])
def test_a_group_that_comes_again_repeats_nothing(order, again):
    order = replace(order, job=replace(order.job, again=again))
    first = ask(order, "00", "01", "02")
    before = times(order)
    second = ask(order, "00", "01", "02")
    assert times(order) == before
    assert [answer.outcome for answer in second] == [answer.outcome for answer in first]
    assert [answer.facts for answer in second] == [answer.facts for answer in first]
    assert all(answer.here for answer in second)


def test_an_image_that_was_finished_but_not_written_down(order):
    first = ask(order, "00")
    (order.work / "group-7.jsonl").unlink()
    before = times(order)
    assert ask(order, "00")[0] == replace(first[0], facts={}, here=False)  # some other process finished it
    journal(order, (7, "begin"))  # a process of this run, which died before it could say so
    assert ask(order, "00")[0] == replace(first[0], facts={"host": "other", "process": 1})
    assert times(order) == before


def test_what_is_to_be_done_again_is_done_once(order):
    ask(order, "00")
    (order.work / "group-7.jsonl").unlink()
    before = times(order)
    assert ask(replace(order, job=replace(order.job, again=True)), "00")[0].here
    assert times(order) != before


def test_an_image_of_which_processes_die_is_given_up(order):
    journal(order, *[(7, "begin")] * (ATTEMPTS - 1))
    assert isinstance(ask(order, "00")[0].outcome, Finished)
    (order.work / "group-7.jsonl").unlink()
    (order.job.out / "00.png").unlink()
    journal(order, *[(7, "begin")] * ATTEMPTS)
    for _ in range(2):
        given_up, other = ask(order, "00", "01")
        assert isinstance(given_up.outcome, InputError)
        assert f"00.png: {ATTEMPTS} processes died of it" in str(given_up.outcome)
        assert isinstance(other.outcome, Finished)
    assert set(label_maps(order.job.out)) == {"01.png"}


def test_a_broken_image_fails_with_the_same_words_each_time(order):
    (order.job.out.parent / "in/01.png").write_text("nothing")
    for _ in range(ATTEMPTS + 1):
        good, broken = ask(order, "00", "01")
        assert isinstance(good.outcome, Finished)
        assert isinstance(broken.outcome, InputError)
        assert "01.png: it is no image" in str(broken.outcome) or "01.png" in str(broken.outcome)
        assert "died" not in str(broken.outcome)


def test_a_line_that_a_killed_process_left_unfinished(order):
    (order.work / "group-7.jsonl").write_bytes(b'{"index": 7, "ev')
    assert ask(order, "00")[0].here
    assert [line["event"] for line in read_lines(order.work / "group-7.jsonl")] == ["begin", "done"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_weights_stay_mapped_from_the_file_so_that_processes_share_them(order):
    predictor = Predictor(order)
    batch = {"index": np.array([7]), "path": np.array([str(order.job.out.parent / "in/00.png").encode()], object)}
    predictor({**batch, "name": np.array([b"00"], object)})
    held = {"Rss": 0, "Private_Dirty": 0}
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE):
        if str(order.job.checkpoint) in mapping.partition("\n")[0]:
            for name in held:
                held[name] += int(re.search(rf"^{name}: *(\d+) kB", mapping, re.MULTILINE)[1])
    assert held["Rss"] > 0
    assert held["Private_Dirty"] == 0


class TestStops:
    def test_results_that_cannot_be_written(self, order, monkeypatch):
        def full(*_):
            raise OptionValueError("the disk is full")

        monkeypatch.setattr(Worker, "run", full)
        answers = ask(order, "00", "01")
        assert [type(answer) for answer in answers] == [OptionValueError]

    def test_a_journal_that_cannot_be_written(self, order, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        predictor = Predictor(order)
        monkeypatch.setattr(Lines, "add", full)
        batch = {"index": np.array([7]), "path": np.array([b"a"], object), "name": np.array([b"a"], object)}
        (answer,) = map(pickle.loads, predictor(batch)["answer"])
        assert isinstance(answer, OptionValueError)
        assert "No space left" in str(answer)

    def test_what_nobody_expects(self, order, monkeypatch):
        def fails(*_):
            raise ZeroDivisionError("oh")

        monkeypatch.setattr(Worker, "run", fails)
        (answer,) = ask(order, "00", "01")
        assert isinstance(answer, PluginError)
        assert "00.png: ZeroDivisionError: oh" in str(answer)

    def test_a_machine_without_the_result_folder(self, order):
        (answer,) = ask(replace(order, work=order.work / "absent"), "00")
        assert isinstance(answer, OptionValueError)
        assert "shared file system" in str(answer)

    def test_a_machine_without_the_checkpoint(self, order):
        (answer,) = ask(replace(order, job=replace(order.job, checkpoint="/absent/model")), "00")
        assert "no folder" in str(answer)

    def test_a_machine_with_another_checkpoint(self, order):
        (answer,) = ask(replace(order, settings="0" * 32), "00")
        assert isinstance(answer, OptionValueError)
        assert "has another checkpoint" in str(answer)

    def test_processes_that_die_while_they_load_the_model(self, order):
        with Lines(order.work / LOADING) as file:
            for _ in range(ATTEMPTS):
                file.add({"event": "begin"})
        (answer,) = ask(order, "00")
        assert isinstance(answer, OptionValueError)
        assert f"{ATTEMPTS} processes died while they loaded" in str(answer)
        assert isinstance(ask(replace(order, workers=2), "00")[0].outcome, Finished)  # the last may be loading still
