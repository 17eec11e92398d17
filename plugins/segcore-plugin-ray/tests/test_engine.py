"""The engine with a real Ray: two workers, one of them killed, a driver killed and started again."""

import time
from collections import Counter
from pathlib import Path

import pytest
import ray
from click.testing import CliRunner
from segcore_plugin_ray import cluster, engine, predict_files, read_manifest
from segcore_plugin_ray.worker import ATTEMPTS

import segcore
from segcore.cli import cli

from .ray_jobs import SPAWN, checkpoint, install_backend, label_maps, lines, photographs, predicted, scene, start

COUNT = 16


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = install_backend(tmp_path_factory.mktemp("site"))
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def running(site):
    """Give all tests one Ray of two CPUs; it takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SPAWN, "PYTHONPATH": str(site)}.items():
            patch.setenv(name, value)
        cluster.start(2**28, cpus=2)
        yield
        ray.shutdown()


@pytest.fixture
def ready(tmp_path):
    """A checkpoint, a folder of photographs, where results go, and where those of one process go."""
    return checkpoint(tmp_path / "model"), photographs(tmp_path / "in", COUNT), tmp_path / "out", tmp_path / "local"


def call(*words, code=0):
    result = CliRunner().invoke(cli, ["predict", *map(str, words)], standalone_mode=False)
    if result.exception:
        raise result.exception
    assert (result.return_value or 0) == code, result.output
    return result.output


def ends(out):
    return [line for line in read_manifest(out) if line["event"] == "end"]


def test_the_results_are_those_of_one_process(running, ready):
    model, images, out, local = ready
    whole = (images / "03.png").read_bytes()
    (images / "03.png").write_bytes(whole[:200])
    scene(images / "scene.tif")
    count = COUNT + 1
    call(model, images, "-o", local, "--overlays", "--probabilities", "--threads", 1, code=3)
    told = call(model, images, "-o", out, "--overlays", "--probabilities", "--engine", "ray", "--workers", 2, code=3)
    assert f"Predicted {count - 1} of {count} images, 1 failed" in told
    names = {path.name for path in local.iterdir()}
    assert "scene.tif" in names
    assert {path.name for path in out.iterdir()} == names | {"manifest.jsonl"}
    for name in names:
        assert (out / name).read_bytes() == (local / name).read_bytes(), name
    begin, *images_, end = read_manifest(out)
    assert (begin["event"], begin["images"], begin["finished"]) == ("begin", count, 0)
    assert begin["checkpoint"] == str(model)
    assert {line["outcome"] for line in images_} == {"predicted", "failed"}
    assert len({line["image"] for line in images_}) == len(images_) == count
    (failed,) = (line for line in images_ if line["outcome"] == "failed")
    assert failed["path"] == str(images / "03.png")
    assert "03.png: it is damaged" in failed["reason"]
    assert (end["event"], end["predicted"], end["found"], end["failed"]) == ("end", count - 1, 0, 1)

    (images / "03.png").write_bytes(whole)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.*")}
    assert predict_files(model, [images], out, overlays=True, probabilities=True, workers=1) == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.*")}
    new = {name for name, modified in after.items() if before.get(name) != modified}
    assert new == {"03.png", "03.npz", "03.overlay.jpg", "areas.csv", "manifest.jsonl"}
    later = [line for line in read_manifest(out) if line["run"] != begin["run"]]
    assert [(line["event"], line.get("image")) for line in later] == [("begin", None), ("image", "03"), ("end", None)]
    assert ray.is_initialized()


def test_a_worker_that_is_killed_loses_nothing(running, ready):
    model, images, out, local = ready
    call(model, images, "-o", local, "--backend", "counted", "--threads", 1)
    (model.parent / "predicted").unlink()
    (model.parent / "once-9").touch()
    assert predict_files(model, [images], out, backend="counted", workers=2) == 0
    assert not (model.parent / "once-9").exists()
    assert Counter(predicted(model.parent)) == Counter([*range(COUNT), 9])  # the one that it died of, once more
    assert label_maps(out) == label_maps(local)
    assert (out / "areas.csv").read_bytes() == (local / "areas.csv").read_bytes()
    told = [line for line in read_manifest(out) if line["event"] == "image"]
    assert sorted(line["image"] for line in told) == [f"{index:02}" for index in range(COUNT)]
    assert {line["outcome"] for line in told} == {"predicted"}
    assert len({line["process"] for line in told}) >= 2


@pytest.mark.slow
def test_an_image_of_which_each_process_dies_is_left_out(running, ready, capfd):
    model, images, out, _ = ready
    (model.parent / "always-5").touch()
    assert predict_files(model, [images], out, backend="counted", workers=2) == 3
    assert Counter(predicted(model.parent)) == Counter([*range(COUNT), *[5] * (ATTEMPTS - 1)])
    assert f"Skipped {images / '05.png'}: {ATTEMPTS} processes died of it" in capfd.readouterr().err
    assert set(label_maps(out)) == {f"{index:02}.png" for index in range(COUNT) if index != 5}
    assert [(end["predicted"], end["failed"]) for end in ends(out)] == [(COUNT - 1, 1)]


def test_what_cannot_be_done_is_said(running, ready, monkeypatch):
    model, images, out, _ = ready
    with pytest.raises(segcore.OptionValueError, match=r"--workers 3 with 1 CPU threads each do not fit.*room for 2"):
        predict_files(model, [images], out, workers=3)
    with pytest.raises(segcore.OptionValueError, match="no machine of Ray has a GPU"):
        predict_files(model, [images], out, device="cuda")
    with pytest.raises(segcore.OptionValueError, match="no file, folder or match"):
        predict_files(model, [images / "absent"], out)
    monkeypatch.setattr(ray.data.Dataset, "iter_rows", lambda _: iter(()))
    with pytest.raises(segcore.PluginError, match=rf"nothing was said of {COUNT} images, such as .*00\.png"):
        predict_files(model, [images], out)

    def fails(_):
        raise ray.exceptions.RaySystemError("the cluster is gone\nand more")

    monkeypatch.setattr(ray.data.Dataset, "iter_rows", fails)
    with pytest.raises(
        segcore.PluginError, match=r"Ray has failed: RaySystemError: .*the cluster is gone.*start again"
    ):
        predict_files(model, [images], out)
    assert not label_maps(out)
    assert not ends(out)


@pytest.mark.slow
def test_what_stops_a_worker_stops_the_run_and_frees_the_workers(running, ready, monkeypatch):
    model, images, out, _ = ready
    real = engine.plan

    def gone(*arguments):
        model.rename(model.with_name("moved"))
        return real(*arguments)

    monkeypatch.setattr(engine, "plan", gone)
    with pytest.raises(segcore.SegcoreError, match="no folder"):
        predict_files(model, [images], out, workers=2)
    monkeypatch.undo()
    assert not ends(out)
    model.with_name("moved").rename(model)
    assert predict_files(model, [images], out, workers=2) == 0
    assert [end["predicted"] for end in ends(out)] == [COUNT]


def wait_for(condition, process):
    """Wait for what must come as long as the process lives."""
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_driver_that_is_killed_and_started_again_repeats_nothing(site, ready):
    """The workers wait for ever after six images, so the driver is killed in the middle of the job."""
    model, images, out, local = ready
    words = ("-m", "segcore", "predict", model, images, "-o", out)
    words += ("--backend", "counted", "--engine", "ray", "--workers", 2)
    first = start(site, *words, WAITS_AFTER="6")
    try:
        wait_for(lambda: len(label_maps(out)) >= 6, first)
    finally:
        first.kill()
        first.communicate()
    done = {name: (out / name).stat().st_mtime_ns for name in label_maps(out)}
    assert len(done) == 6
    (model.parent / "predicted").rename(model.parent / "predicted by the first")
    second = start(site, *words)
    told, _ = second.communicate()
    assert second.returncode == 0, told
    assert f"Predicted {COUNT - len(done)} of {COUNT} images, {len(done)} were there already" in told
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert sorted(predicted(model.parent)) == [index for index in range(COUNT) if f"{index:02}.png" not in done]
    runs = [line["run"] for line in lines(out / "manifest.jsonl") if line["event"] == "begin"]
    assert len(runs) == 2
    told = [line for line in read_manifest(out) if line["event"] == "image"]
    assert sorted(line["image"] for line in told) == [f"{index:02}" for index in range(COUNT)]  # each once
    assert [end["run"] for end in ends(out)] == [runs[1]]
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]

    call(model, images, "-o", local, "--backend", "counted", "--threads", 1)
    assert label_maps(out) == label_maps(local)


@pytest.mark.slow
def test_a_node_that_is_lost_loses_nothing(site, ready):
    """After six images the workers wait until one of the two nodes is gone."""
    model, images, out, local = ready
    program = start(site, Path(__file__).with_name("lost_node.py"), model, images, out, WAITS_AFTER="6")
    told, _ = program.communicate()
    assert program.returncode == 0, told
    assert "lost: 1" in told
    images_ = [line for line in read_manifest(out) if line["event"] == "image"]
    assert sorted(line["image"] for line in images_) == [f"{index:02}" for index in range(COUNT)]
    call(model, images, "-o", local, "--backend", "counted", "--threads", 1)
    assert label_maps(out) == label_maps(local)
    assert (out / "areas.csv").read_bytes() == (local / "areas.csv").read_bytes()
