"""Two processes on the CPU (gloo): the same result as one process with the doubled batch."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from segcore_plugin_train import Settings, state, train
from segcore_plugin_train.build import make_data, make_task
from segcore_plugin_train.data import IMAGENET
from segcore_plugin_train.log import read_log

import segcore

PROGRAM = """
import os, signal, sys
rank = int(next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0"))
out = sys.argv[sys.argv.index("--out") + 1]

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(out):
        if isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+"):
            print("WROTE", rank, arguments[0], flush=True)
    if event in {"os.mkdir", "os.rename"} and str(arguments[0]).startswith(out):
        print("WROTE", rank, arguments[0], flush=True)

sys.addaudithook(watch)
if "LEAST" in os.environ:
    from segcore_plugin_train import sharding
    sharding.LEAST = int(os.environ["LEAST"])
place, step, number = map(int, os.environ.get("SIGNAL", "-1 0 0").split())
if rank == place and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
    from segcore_plugin_train import keeper
    done = keeper.Keeper.on_train_batch_end

    def gets_signal(self, trainer, module, *rest):
        done(self, trainer, module, *rest)
        if module.step == step:
            signal.raise_signal(number)

    keeper.Keeper.on_train_batch_end = gets_signal
if __name__ == "__main__":
    from segcore.cli import main
    main()
"""


OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # else the restarted ask for the address of the dead


@pytest.fixture
def exact(small):
    """A run in which processes and batches make no difference: float64 and frozen norms.

    Losses are over classes, with weights, and over pixels, of which processes have different numbers that count.
    """
    return small | {
        "precision": "64",
        "freeze": ["BatchNorm2d"],
        "loss": "dice+ce",
        "loss_option": {"weight": [0.2, 1.0, 2.0, 3.0]},
        "label": {"0": 0, "1": 1, "2": 2, "3": "ignore"},
        "crop": 40,
        "augment": "flips",
        "val_fraction": 0.25,
    }


def start(folder, fields, launcher=(), **more):
    """Start the command."""
    program, config = folder / "program.py", folder / "run.yaml"
    program.write_text(PROGRAM)
    config.write_text(json.dumps({name: value for name, value in fields.items() if name != "out"}))
    words = [sys.executable, *launcher, program, "train", "--config", config, "--out", fields["out"]]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} | more
    return subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def launch(folder, fields, launcher, **more):
    """Run the command and return what it printed."""
    process = start(folder, fields, launcher, **more)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def torchrun(*options):
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]


def killed(rank, step):
    """Let a process be killed after a step."""
    return f"{rank} {step} {int(signal.SIGKILL)}"


def assert_same(one, two):
    a, b = (load_file(Path(out) / state.NAME) for out in (one, two))
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value.double(), b[name].double(), rtol=1e-9, atol=1e-11), name
    for first, second in zip(*(read_log(Path(out) / "log.csv") for out in (one, two)), strict=True):
        for column in ("step", "lr", "loss", "val_loss", "val_iou"):
            assert first[column] == second[column] or float(first[column]) == pytest.approx(
                float(second[column]), rel=1e-6
            )
    assert json.loads((Path(one) / "best.json").read_text()) == json.loads((Path(two) / "best.json").read_text())


def halved(fields, tmp_path):
    return fields | {"batch_size": fields["batch_size"] // 2, "out": str(tmp_path / "two")}


def test_two_processes_equal_one_with_the_doubled_batch_and_only_the_first_writes(exact, tmp_path):
    train(Settings(**exact), tell=lambda line: None)
    printed = launch(tmp_path, halved(exact, tmp_path), torchrun())
    assert_same(exact["out"], tmp_path / "two")
    writers = {line.split()[1] for line in printed.splitlines() if line.startswith("WROTE")}
    assert writers == {"0"}
    assert printed.count("images to train on") == 1


def test_a_model_divided_over_two_processes_equals_a_whole_one(exact, tmp_path):
    fields = exact | {"ema": 0.9, "clip": 0.5, "freeze": ["BatchNorm2d", "encoder.layer1"], "channels_last": True}
    train(Settings(**fields), tell=lambda line: None)
    printed = launch(tmp_path, halved(fields, tmp_path) | {"strategy": "fsdp"}, torchrun(), LEAST="1000")
    assert_same(fields["out"], tmp_path / "two")
    assert {line.split()[1] for line in printed.splitlines() if line.startswith("WROTE")} == {"0"}
    for name in ("best", "last"):
        one, two = (segcore.from_pretrained(Path(out) / name) for out in (fields["out"], tmp_path / "two"))
        assert one.config == two.config
        for key, value in one.state_dict().items():
            assert torch.allclose(value, two.state_dict()[key], rtol=1e-9, atol=1e-11), key


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_processes_measure_one_model_although_norms_learn_from_their_own_samples(exact, tmp_path, strategy):
    fields = halved(exact, tmp_path) | {"freeze": [], "strategy": strategy}
    launch(tmp_path, fields, torchrun())
    data = make_data(Settings(**fields), IMAGENET)
    model = segcore.from_pretrained(tmp_path / "two" / "last").double()
    loss = make_task(Settings(**fields), model, data.ignore, 1).loss
    images = [group for groups in data.val_dataloader() for group in groups]
    losses = [float(loss(model.predict(x.double()), labels)) for x, labels, _ in images]
    assert len(losses) == 3  # two of the first process, one of the second
    logged = float(read_log(tmp_path / "two" / "log.csv")[-1]["val_loss"])
    assert logged == pytest.approx(sum(losses) / 3, rel=1e-6)


@pytest.mark.slow
def test_a_run_with_a_divided_model_goes_on_whole(exact, tmp_path):
    fields = exact | {"ema": 0.9, "optimizer": "sgd"}
    train(Settings(**fields), tell=lambda line: None)
    divided = halved(fields, tmp_path) | {"save_every": 1}
    with pytest.raises(AssertionError, match="SIGKILL|Signal 9"):
        launch(tmp_path, divided | {"strategy": "fsdp"}, torchrun(), SIGNAL=killed(1, 3))
    assert 2 <= state.load_state(tmp_path / "two" / state.NAME).step <= 3
    train(Settings(**divided | {"batch_size": exact["batch_size"], "resume": True}), tell=lambda line: None)
    assert_same(fields["out"], tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_worker_that_is_killed_starts_again_and_ends_at_the_same_weights(exact, tmp_path, strategy):
    train(Settings(**exact), tell=lambda line: None)
    fields = halved(exact, tmp_path) | {"resume": True, "save_every": 1, "strategy": strategy}
    printed = launch(tmp_path, fields, torchrun("--max-restarts", "1"), SIGNAL=killed(1, 4), **OWN_STORE)
    assert "TORCH_DISABLE" not in printed
    assert "goes on at" in printed
    assert_same(exact["out"], tmp_path / "two")


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one(exact, tmp_path):
    train(Settings(**exact), tell=lambda line: None)
    fields = halved(exact, tmp_path) | {"save_every": 1}
    with pytest.raises(AssertionError, match="SIGKILL|Signal 9"):
        launch(tmp_path, fields, torchrun(), SIGNAL=killed(1, 3))
    done = state.load_state(tmp_path / "two" / state.NAME).step
    assert 2 <= done <= 3
    train(Settings(**fields | {"batch_size": exact["batch_size"], "resume": True}), tell=lambda line: None)
    assert_same(exact["out"], tmp_path / "two")


@pytest.mark.slow
def test_processes_that_lightning_starts(exact, tmp_path):
    train(Settings(**exact), tell=lambda line: None)
    launch(tmp_path, halved(exact, tmp_path) | {"devices": 2, "accelerator": "cpu"}, [])
    assert_same(exact["out"], tmp_path / "two")


@pytest.mark.slow
def test_a_part_that_is_unfrozen_later_is_trained_by_all_processes(exact, tmp_path):
    fields = exact | {"freeze": ["BatchNorm2d", "encoder.layer1"], "ema": 0.9}
    train(Settings(**fields), tell=lambda line: None)
    launch(tmp_path, halved(fields, tmp_path), torchrun())
    assert_same(fields["out"], tmp_path / "two")


def srun(folder, fields, **more):
    """Start two tasks as SLURM would and return their exit codes and what they printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {
        "SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0", "MASTER_PORT": port,
    }  # fmt: skip
    tasks = [start(folder, fields, **job, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **more) for rank in (0, 1)]
    printed = [task.communicate()[0] for task in tasks]
    return [task.returncode for task in tasks], "\n".join(printed)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_tasks_of_slurm_save_when_told_and_go_on(exact, tmp_path, strategy):
    train(Settings(**exact), tell=lambda line: None)
    fields = halved(exact, tmp_path) | {"resume": True, "strategy": strategy}
    codes, printed = srun(tmp_path, fields, SIGNAL=f"0 3 {int(signal.SIGUSR1)}")
    assert codes == [130, 130], printed
    assert "Stopped and saved at step 4" in printed  # the end of the epoch
    codes, printed = srun(tmp_path, fields)
    assert codes == [0, 0], printed
    assert "goes on at 4" in printed
    assert {line.split()[1] for line in printed.splitlines() if line.startswith("WROTE")} == {"0"}
    assert_same(exact["out"], tmp_path / "two")
