"""A save that is killed, interrupted or refused by the disk at any call leaves the old checkpoint or the new one."""

import contextlib
import errno
import os
import pathlib
import signal
import warnings

import pytest
import torch

import segcore
from segcore.testing import TinyDecoder, TinyEncoder

FILES = {"README.md", "config.json", "model.safetensors"}


class Faults:
    """Counts the calls of a save that reach the disk, and does something at one of them, before or after it."""

    def __init__(self, at, action):
        self.at, self.action, self.count = at, action, 0

    def point(self):
        self.count += 1
        if self.count == self.at:
            self.action()

    def around(self, function):
        def call(*args, **kwargs):
            self.point()
            result = function(*args, **kwargs)
            self.point()
            return result

        return call

    def opened(self, function):
        faults = self

        class Spy:
            def __init__(self, file):
                self.file = file

            def write(self, data):
                faults.point()
                half = len(data) // 2
                self.file.write(data[:half])
                faults.point()
                self.file.write(data[half:])

            def __enter__(self):
                return self

            def __exit__(self, *problem):
                faults.point()
                self.file.close()

            def __getattr__(self, name):
                return getattr(self.file, name)

        def call(path, mode="r", *args, **kwargs):
            self.point()
            file = function(path, mode, *args, **kwargs)
            return Spy(file) if "w" in mode else file

        return call

    @contextlib.contextmanager
    def injected(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pathlib.Path, "open", self.opened(pathlib.Path.open))
            for owner, names in (
                (os, ("fsync", "open")),
                (pathlib.Path, ("replace", "chmod", "mkdir", "unlink")),
            ):
                for name in names:
                    patch.setattr(owner, name, self.around(getattr(owner, name)))
            yield


@pytest.fixture
def parts():
    segcore.encoders["tiny"], segcore.decoders["tinydec"] = TinyEncoder, TinyDecoder
    yield
    del segcore.encoders["tiny"], segcore.decoders["tinydec"]


def constant(value):
    model = segcore.create_model("tinydec", "tiny", classes=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def state_of(folder):
    """Return which checkpoint lies in a folder; None where there is none."""
    if not (folder / "model.safetensors").exists():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # config.json may be the other one; the one inside counts
        values = {value.mean().item() for value in segcore.from_pretrained(folder).parameters()}
    assert len(values) == 1, f"a mixture: {values}"
    return values.pop()


def survives(tmp_path, run, *, fresh):
    """Run a save with a fault at its first call, then the second, ..., until one survives; return the number tried."""
    old, new = constant(1.0), constant(2.0)
    for at in range(1, 400):
        folder = tmp_path / f"at{at}"
        if not fresh:
            old.save_pretrained(folder)
        survived = run(at, lambda folder=folder: new.save_pretrained(folder))
        found = state_of(folder)
        assert found in ({None, 2.0} if fresh else {1.0, 2.0})
        if survived:
            assert found == 2.0
            return at - 1
        new.save_pretrained(folder)  # whatever was left behind is no obstacle
        assert state_of(folder) == 2.0
        assert {path.name for path in folder.iterdir()} == FILES, "litter"
    raise AssertionError("no save survived")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "problem", [OSError(errno.ENOSPC, "No space"), OSError(errno.EIO, "I/O"), KeyboardInterrupt()], ids=repr
)
def test_a_refusing_disk_or_an_interrupt(parts, tmp_path, problem, fresh):
    def run(at, save):
        def fail():
            raise problem

        faults = Faults(at, fail)
        with faults.injected():
            try:
                save()
            except type(problem):
                assert faults.count >= at
                return False
        return faults.count < at

    assert survives(tmp_path, run, fresh=fresh) > 60


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_kill(parts, tmp_path, number, fresh):
    def run(at, save):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with Faults(at, lambda: os.kill(os.getpid(), number)).injected():
                    save()
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return not os.WIFSIGNALED(status)

    assert survives(tmp_path, run, fresh=fresh) > 60


def test_readers_beside_writers_see_one_whole_checkpoint(parts, tmp_path):
    models = [constant(1.0), constant(2.0)]
    models[0].save_pretrained(tmp_path)
    children = []
    for model in models:
        child = os.fork()
        if child == 0:
            try:
                for _ in range(40):
                    model.save_pretrained(tmp_path)
            finally:
                os._exit(0)
        children.append(child)
    seen = [state_of(tmp_path) for _ in range(150)]
    for child in children:
        os.waitpid(child, 0)
    assert set(seen) <= {1.0, 2.0}
