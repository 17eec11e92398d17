import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from segcore_plugin_train import Settings, TrainingError, keeper, run, state, train
from segcore_plugin_train.log import read_log

import segcore
from segcore import CheckpointError, InputError, OptionValueError
from segcore.cli import cli


def weights(out):
    return load_file(Path(out) / state.NAME)


def equal(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def quietly(**fields):
    return train(Settings(**fields), tell=lambda line: None)


def words_of(fields):
    """Return the command line of some fields."""
    words = []
    for name, value in fields.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            words += [word for key, item in value.items() for word in (flag, f"{key}={json.dumps(item)}")]
        elif isinstance(value, list):
            words += [word for item in value for word in (flag, str(item))]
        elif value is True:
            words.append(flag)
        else:
            words += [flag, str(value)]
    return words


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def started(fields, program="from segcore.cli import main; main()"):
    return subprocess.Popen(
        [sys.executable, "-c", program, "train", *words_of(fields)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_run_leaves_checkpoints_log_and_report_and_evaluate_agrees(small, tmp_path):
    lines = []
    evaluation = train(Settings(**small, names=list("abcd"), ema=0.5, clip=1.0), tell=lines.append)
    out = Path(small["out"])
    assert sorted(path.name for path in out.iterdir()) == [
        "best", "best.json", "last", "log.csv", "report.html", "run.json", "tensorboard", state.NAME,
    ]  # fmt: skip
    assert "10 images to train on, 2 to validate with" in lines[0]
    assert sum(line.startswith("epoch") for line in lines) == 3
    rows = read_log(out / "log.csv")
    assert [int(row["step"]) for row in rows if row["loss"]] == list(range(1, 7))
    best = max(float(row["val_iou"]) for row in rows if row["val_iou"])
    assert evaluation.mean_iou == pytest.approx(best, abs=1e-6)
    model = segcore.from_pretrained(out / "best")
    assert model.config["class_names"] == list("abcd")
    assert model.config["image_size"] == [32, 32]
    assert segcore.preprocessing(model).mean == (0.485, 0.456, 0.406)
    images = [Path(small["images"]) / f"{name}.png" for name, _ in evaluation.images]
    table = tmp_path / "val.csv"
    table.write_text("image,mask\n" + "".join(f"{p},{Path(small['masks']) / p.name}\n" for p in images))
    page = tmp_path / "page.html"
    result = CliRunner().invoke(
        cli, ["evaluate", str(out / "best"), "--table", str(table), "--json", "--report", str(page)]
    )
    again = json.loads(result.output)
    assert again["matrix"] == evaluation.matrix
    assert again["names"] == list("abcd")
    assert [iou for _, iou in again["images"]] == pytest.approx([iou for _, iou in evaluation.images])
    for text in (page.read_text(), (out / "report.html").read_text()):
        assert text.count("<figure>") == 2
        assert text.count("data:image/png;base64,") == 6
        assert "http" not in text


def test_the_same_seed_gives_the_same_weights_whatever_the_workers(small, tmp_path):
    quietly(**small)
    quietly(**small | {"out": str(tmp_path / "b"), "workers": 2, "save_every": 1})
    quietly(**small | {"out": str(tmp_path / "c"), "seed": 1})
    assert equal(small["out"], tmp_path / "b")
    assert not equal(small["out"], tmp_path / "c")


KILLED = """
import os, signal
from segcore_plugin_train import keeper
save = keeper.save_state
def dies(path, state):
    if state.step == {step}:
        path.with_name(f".{{path.name}}.{{os.getpid()}}.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, state)
keeper.save_state = dies
from segcore.cli import main
main()
"""


def test_a_run_that_is_killed_while_it_saves_goes_on_to_the_same_weights(small, tmp_path):
    fields = small | {"save_every": 1, "ema": 0.9, "channels_last": True, "unfreeze_epoch": 1, "freeze": ["encoder"]}
    quietly(**fields, resume=True)
    other = fields | {"out": str(tmp_path / "killed")}
    process = started(other, KILLED.format(step=4))
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    assert int(state.load_state(tmp_path / "killed" / state.NAME).step) == 3
    assert list((tmp_path / "killed").glob(".*.tmp"))
    lines = []
    train(Settings(**other, resume=True), tell=lines.append)
    assert "goes on at 3" in lines[0]
    assert equal(small["out"], tmp_path / "killed")
    assert not list((tmp_path / "killed").glob(".*"))
    for name in ("best.json", "best/model.safetensors", "last/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (Path(small["out"]) / name).read_bytes()
    logs = [read_log(Path(out) / "log.csv") for out in (small["out"], tmp_path / "killed")]
    assert [{**row, "seconds": ""} for row in logs[0]] == [{**row, "seconds": ""} for row in logs[1]]


COUNTING = """
import os, sys
from segcore_plugin_train import keeper
begin, calls, this = keeper.Keeper.on_train_start, 0, os.getpid()
def count(frame, event, argument):
    global calls
    if event == "call" and os.getpid() == this:  # not a worker that reads images
        calls += 1
        if calls == {moment}:
            os.kill(this, {number})
def begins(self, *rest):
    begin(self, *rest)
    sys.setprofile(count)
def ends(self, *rest):
    sys.setprofile(None)
    print("CALLS", calls)
keeper.Keeper.on_train_start, keeper.Keeper.on_train_end = begins, ends
from segcore.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_signals_at_random_moments(small, tmp_path, number):
    """A moment is a number of calls of Python functions since training began."""
    fields = small | {"save_every": 2, "epochs": 8, "workers": 1, "accumulate": 2, "batch_size": 2, "patience": 11}
    process = started(fields, COUNTING.format(moment=-1, number=0))
    calls = int(re.search(r"CALLS (\d+)", process.communicate()[0])[1])
    generator = np.random.default_rng(number)
    other = fields | {"out": str(tmp_path / "b"), "resume": True}
    for moment in generator.integers(1, calls // 3, 3):  # the first two at least come before the end
        process = started(other, COUNTING.format(moment=moment, number=int(number)))
        output, _ = process.communicate()
        stopped = -signal.SIGKILL if number == signal.SIGKILL else 130
        assert process.returncode == (0 if "CALLS" in output else stopped), output
    quietly(**other)
    assert equal(small["out"], tmp_path / "b")


INTERRUPTED = """
import signal
from segcore_plugin_train import keeper
step = keeper.Keeper.on_train_batch_end
def interrupted(self, trainer, module, *rest):
    if module.step == 3:
        signal.raise_signal(signal.SIGINT)
    step(self, trainer, module, *rest)
keeper.Keeper.on_train_batch_end = interrupted
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
from segcore.cli import main
try:
    main()
finally:
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
"""


def test_ctrl_c_saves_and_ends_without_a_traceback(small):
    process = started(small, INTERRUPTED)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "Stopped and saved at step 3" in output
    assert "Traceback" not in output
    assert state.load_state(Path(small["out"]) / state.NAME).step == 3
    quietly(**small, resume=True)
    reference = small | {"out": small["out"] + "-whole"}
    quietly(**reference)
    assert equal(small["out"], reference["out"])


def test_a_folder_with_a_run_is_not_overwritten_and_other_settings_are_refused(small, monkeypatch):
    quietly(**small)
    with pytest.raises(OptionValueError, match="--resume"):
        quietly(**small)
    with pytest.raises(OptionValueError, match=r"lr 0.003 is now 0.1"):
        quietly(**small | {"lr": 0.1}, resume=True)
    with pytest.raises(OptionValueError, match="batch size x processes"):
        quietly(**small | {"batch_size": 2}, resume=True)
    monkeypatch.setattr(run, "_fit", None)  # it is done, so nothing is trained
    assert quietly(**small | {"batch_size": 2, "accumulate": 2}, resume=True).mean_iou > 0
    (Path(small["out"]) / state.NAME).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="damaged"):
        quietly(**small, resume=True)


def test_the_run_stops_early_and_says_so(small, monkeypatch):
    monkeypatch.setattr(keeper.Keeper, "_gathered", lambda self, task: {})
    monkeypatch.setattr(run, "write_report", lambda *args, **options: None)
    lines = []
    train(Settings(**small | {"epochs": 20, "lr": 1e-12, "patience": 2}), tell=lines.append)
    assert sum(line.startswith("epoch") for line in lines) <= 6
    assert any("stopped early" in line for line in lines)


def test_one_class_steps_bf16_and_a_checkpoint_to_start_from(small, shapes, tmp_path):
    labels = {"0": 0, "1": 1, "2": 1, "3": "ignore"}
    fields = small | {"classes": 1, "label": labels, "precision": "bf16", "steps": 3}
    evaluation = quietly(**fields)
    assert evaluation.names == ["background", "object"]
    assert evaluation.iou[0] is None
    assert [int(row["step"]) for row in read_log(Path(small["out"]) / "log.csv") if row["loss"]] == [1, 2, 3]
    more = fields | {"out": str(tmp_path / "more"), "checkpoint": str(Path(small["out"]) / "last"), "steps": 1}
    quietly(**more | {"classes": None, "label": labels})
    assert segcore.from_pretrained(tmp_path / "more" / "best").config["classes"] == 1


def test_memory_that_is_full_ends_cleanly_and_keeps_what_was_saved(small, monkeypatch):
    step = keeper.Keeper.on_train_batch_end

    def full(self, trainer, module, *rest):
        step(self, trainer, module, *rest)
        if module.step == 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(keeper.Keeper, "on_train_batch_end", full)
    with pytest.raises(TrainingError, match="--batch-size"):
        quietly(**small)
    assert state.load_state(Path(small["out"]) / state.NAME).step == 2
    segcore.from_pretrained(Path(small["out"]) / "last")


def test_weights_that_are_not_finite_do_not_replace_the_last_save(small, monkeypatch):
    step = keeper.Keeper.on_train_batch_end

    def broken(self, trainer, module, *rest):
        if module.step == 3:
            next(module.model.parameters()).data.fill_(float("inf"))
        step(self, trainer, module, *rest)

    monkeypatch.setattr(keeper.Keeper, "on_train_batch_end", broken)
    with pytest.raises(TrainingError, match="not finite after step 3"):
        quietly(**small | {"save_every": 1})
    assert state.load_state(Path(small["out"]) / state.NAME).step == 2


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"classes": 3}, InputError, r"\d+ of 12 pairs cannot be used"),
        ({"classes": None}, OptionValueError, "--classes"),
        ({"names": ["a"]}, OptionValueError, "1 names are given for 4 classes"),
        ({"table": "x.csv"}, OptionValueError, "the data are needed once"),
        ({"images": None}, OptionValueError, "the data are needed once"),
        ({"images": "none"}, OptionValueError, "does not exist"),
        ({"encoder": "resnet19"}, segcore.UnknownNameError, "resnet18"),
        ({"freeze": ["encoder.layr1"]}, OptionValueError, "encoder.layer1"),
        ({"loss": "ce", "loss_option": {"smoth": 1}}, segcore.UnknownOptionError, "smoth"),
    ],
)
def test_what_is_wrong_is_told_before_training(small, change, kind, text):
    with pytest.raises(kind, match=text):
        quietly(**small | change)
    assert not Path(small["out"]).exists()


def test_a_class_that_no_mask_has_is_mentioned(small):
    lines = []
    train(Settings(**small | {"classes": 6, "steps": 1}), tell=lines.append)
    assert "no pixel of the training masks has the class 4, 5" in lines[0]


def test_a_place_that_is_a_file(small, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(OptionValueError, match="no folder"):
        quietly(**small)


def test_evaluation_refuses_what_does_not_fit(small, tmp_path):
    quietly(**small | {"steps": 1})
    best = str(Path(small["out"]) / "best")
    for words, text in (
        ([], "the data are needed once"),
        (["--images", small["images"], "--masks", small["masks"], "--names", "a"], "there are 1 names"),
    ):
        result = CliRunner().invoke(cli, ["evaluate", best, *words])
        assert isinstance(result.exception, OptionValueError)
        assert text in str(result.exception)
    (tmp_path / "masks").mkdir()
    for path in Path(small["images"]).iterdir():
        Image.fromarray(np.full((32, 32), 9, np.uint8)).save(tmp_path / "masks" / path.name)
    result = CliRunner().invoke(
        cli, ["evaluate", best, "--images", small["images"], "--masks", str(tmp_path / "masks")]
    )
    assert re.search(r"000\.png: it has labels out of range: 9", str(result.exception))


def test_a_restart_that_may_fail_is_announced(small, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setattr(run, "_fit", lambda *args: None)
    monkeypatch.setattr(run, "_report", lambda *args: None)
    lines = []
    train(Settings(**small), tell=lines.append)
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in lines[0]


def test_a_logger_gets_the_same_numbers_and_is_closed(small, monkeypatch):
    class Recorder:
        rows, closed = [], False

        def log_metrics(self, values, step):
            self.rows.append((step, values))

        def finalize(self, status):
            self.closed = True

    recorder = Recorder()
    monkeypatch.setattr(run, "tensorboard", lambda folder, step, tell: recorder)
    quietly(**small)
    rows = read_log(Path(small["out"]) / "log.csv")
    assert [step for step, _ in recorder.rows] == [int(row["step"]) for row in rows]
    assert recorder.rows[-1][1]["val_iou"] == pytest.approx(float(rows[-1]["val_iou"]), rel=1e-6)
    assert recorder.closed


@pytest.mark.parametrize(
    ("variables", "place", "devices"),
    [
        ({}, (0, 1), (1, 1)),
        ({"LOCAL_RANK": "1"}, (1, 1), (1, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (5, 8), (4, 2)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "6", "SLURM_NNODES": "3"}, (3, 6), (2, 3)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2), (2, 1)),
    ],
)
def test_who_started_the_processes(monkeypatch, variables, place, devices):
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "SLURM_PROCID",
        "SLURM_NTASKS",
        "SLURM_NNODES",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert keeper.rank_from_environment() == place
    assert run._devices(Settings(), place[1]) == devices
