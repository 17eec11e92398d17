"""How workers are spread over machines, and the manifest across runs; without Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from segcore_plugin_predict import Job, ReadOptions
from segcore_plugin_ray import read_manifest
from segcore_plugin_ray.cluster import STARTS, connected, plan
from segcore_plugin_ray.manifest import Manifest

from segcore import OptionValueError, PluginError


def test_importing_and_listing_load_neither_ray_nor_torch():
    code = "import sys, segcore, segcore_plugin_ray; segcore.list_plugins(); dir(segcore_plugin_ray); "
    code += "print({'ray', 'torch', 'pyarrow', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def job(**options):
    given = dict.fromkeys(("tile", "overlap", "multilabel", "device", "threads"))
    given |= dict.fromkeys(("probabilities", "overlays", "again", "quiet"), False)
    given |= {"checkpoint": "model", "out": Path("out"), "flips": "", "blend": "gaussian", "batch": 1, "threshold": 0.5}
    return Job(**(given | {"reading": ReadOptions()} | options))


@pytest.mark.parametrize(
    ("nodes", "options", "images", "expected"),
    [
        ([(2, 0)], {}, 100, (2, 1, 0.5, 0)),
        ([(2, 0)], {}, 1, (1, 1, 0.5, 0)),
        ([(1, 0)], {}, 100, (1, 1, 0.5, 0)),
        ([(8, 0), (16, 0)], {"threads": 4}, 100, (6, 4, 2, 0)),
        ([(8, 0), (7, 0)], {"threads": 4}, 100, (3, 4, 2, 0)),
        ([(64, 0)], {"workers": 10}, 100, (10, 1, 0.5, 0)),
        ([(64, 0)], {"workers": 10}, 3, (3, 1, 0.5, 0)),
        ([(16, 4)], {}, 2, (2, 1, 0.5, 1)),
        ([(16, 2), (16, 2)], {}, 100, (4, 1, 0.5, 1)),
        ([(16, 2)], {"workers": 6}, 100, (6, 1, 0.5, 1 / 3)),
        ([(16, 4)], {"workers": 2, "device": "cuda"}, 100, (2, 1, 0.5, 1)),
        ([(16, 4)], {"device": "cpu"}, 100, (16, 1, 0.5, 0)),
    ],
)
def test_workers_leave_half_of_the_cpus_to_ray(monkeypatch, nodes, options, images, expected):
    known = [{"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}} for cpus, gpus in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: [*known, {"Alive": False, "Resources": {"CPU": 99.0}}])
    how = plan(job(**options), images)
    assert (how.workers, how.threads, how.cpus, how.gpus) == expected
    assert how.workers * how.cpus <= sum(cpus for cpus, _ in nodes) / 2


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([(2, 0)], {"workers": 3}, r"have 2 CPUs: there is room for 2\. Use fewer"),
        ([(2, 0), (4, 0)], {"workers": 3, "threads": 3}, r"have 2 \+ 4 CPUs: there is room for 1\."),
        ([(2, 0)], {"threads": 8}, r"room for 0\. Use --threads 2 or fewer"),
        ([(2, 0)], {"device": "cuda"}, "no machine of Ray has a GPU"),
        ([(2, 1)], {"device": "cuda:0"}, "Use --device cuda"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, nodes, options, message):
    known = [{"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}} for cpus, gpus in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: known)
    with pytest.raises(OptionValueError, match=message):
        plan(job(**options), 100)


def test_addresses_that_lead_nowhere(monkeypatch):
    def refuses(*_, **__):
        raise ConnectionError("Could not find any running Ray instance.\nmore")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuses)
    with (
        pytest.raises(OptionValueError, match=r"no Ray at address 'a:1': Could not find.*ray start --head"),
        connected("a:1", 1),
    ):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "ray://a:10001")
    with pytest.raises(OptionValueError, match="is that of a Ray client"), connected(None, 1):
        pass


@pytest.mark.parametrize("failures", [0, STARTS - 1, STARTS])
def test_ray_is_given_time_to_start(monkeypatch, failures):
    calls, ended = [], []

    def init(*_, **options):
        calls.append((options["include_dashboard"], os.environ["RAY_USAGE_STATS_ENABLED"]))
        if len(calls) <= failures:
            raise Exception("The current node timed out during startup.")  # noqa: TRY002 - what Ray raises

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    if failures < STARTS:
        with connected(None, 1):
            assert len(ended) == failures
    else:
        with (
            pytest.raises(PluginError, match="does not start on this machine: Exception: The current"),
            connected(None, 1),
        ):
            pass
    assert calls == [(False, "0")] * min(failures + 1, STARTS)
    assert len(ended) == min(failures + 1, STARTS)


def write(out, run, settings, *images, end=True):
    with Manifest(out, run, settings) as manifest:
        lacking = [name for name in "abc" if manifest.lacks(name)]
        manifest.begin({"settings": settings})
        for name, outcome in images:
            manifest.image(name, Path(f"{name}.png"), outcome, {})
        if end:
            manifest.end()
    return lacking


def test_a_manifest_tells_which_images_are_recorded_with_which_settings(tmp_path):
    assert write(tmp_path, "1", "x", ("a", "predicted"), ("b", "failed"), end=False) == ["a", "b", "c"]
    assert write(tmp_path, "2", "x", ("b", "found")) == ["b", "c"]
    assert write(tmp_path, "3", "y", ("a", "predicted"), ("b", "predicted")) == ["a", "b", "c"]
    assert write(tmp_path, "4", "x") == ["a", "b", "c"]  # these were predicted with other settings since
    *_, last = read_manifest(tmp_path)
    assert (last["event"], last["predicted"], last["found"], last["failed"]) == ("end", 0, 0, 0)


def test_a_manifest_that_was_cut_off_stays_readable(tmp_path):
    write(tmp_path, "1", "x", ("a", "predicted"), ("b", "predicted"), end=False)
    path = tmp_path / "manifest.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        before = whole[:length].count(b"\n") + (length > 0 and whole[length : length + 1] == b"\n")
        assert len(read_manifest(tmp_path)) == before
        write(tmp_path, "2", "x", ("c", "predicted"))
        assert [line.get("image") for line in read_manifest(tmp_path)][-3:] == [None, "c", None]
        assert len(read_manifest(tmp_path)) == before + 3
    for line in path.read_text().splitlines():
        assert json.loads(line)["event"]


def test_what_cannot_be_read_or_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.jsonl' does not exist"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.jsonl").mkdir()
    with pytest.raises(OptionValueError, match="cannot be written"):
        Manifest(tmp_path, "1", "x")
