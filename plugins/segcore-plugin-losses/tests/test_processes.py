"""Two processes (gloo) that share a batch: `across_processes` gives value and gradient of one process with all of it."""

import os
import subprocess
import sys

import pytest
import torch
from segcore_plugin_losses import across_processes
from torch import distributed, nn

import segcore

# name and options; 5 images are divided as 3 and 2, so processes differ in pixels, in ignored ones and in classes
CASES = [
    ("ce", {}), ("ce", {"label_smoothing": 0.1}), ("bce", {"pos_weight": 2.0}), ("focal", {}), ("boundary", {}),
    ("ohem", {"threshold": 0.3, "min_kept": 0}), ("dice", {}), ("dice", {"per_image": True}),
    ("dice", {"absent": "penalise"}), ("jaccard", {"smooth": 0.0}), ("focal-tversky", {}),
    ("lovasz", {"per_image": True}), ("mcc", {}), ("cldice", {}),
    ("compound", {"parts": ("dice", "ce"), "weights": {"ce": 0.3}}),
]  # fmt: skip
MODES = {"binary": 1, "multiclass": 4, "multilabel": 3}
VARIANTS = [{}, {"ignore_index": 9}, {"weight": True}, {"reduction": "sum"}]
HALVES = slice(0, 3), slice(3, 5)


def cases():
    for name, options in CASES:
        for mode, classes in MODES.items():
            for variant in VARIANTS:
                more = dict(variant)
                if "weight" in more:
                    if mode == "binary":
                        continue
                    more["weight"] = [0.5, 2.0, 1.0, 3.0][:classes]
                if name == "compound" and "reduction" in more:
                    continue
                yield f"{name} {options} {mode} {variant}", mode, (name, {**options, **more})


def batch(mode):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(5, 2, 9, 8, generator=generator, dtype=torch.float64)
    if mode == "multiclass":
        y = torch.randint(3, (5, 9, 8), generator=generator)
        y[4, 2:5, 2:6] = 3  # a class that one process alone has
    else:
        y = torch.randint(2, (5, MODES[mode], 9, 8), generator=generator)
        y[:3, -1] = 0
    ignored = y.clone()
    ignored[0] = 9  # a whole image; 2 ** 4 pixels in the other process
    ignored[3, ..., :4, :4] = 9
    return x, y, ignored


def found(mode, name, options, part):
    """Return loss and gradient of a small network on a part of the batch."""
    torch.manual_seed(1)
    model = nn.Conv2d(2, MODES[mode], 3, padding=1).double()
    x, y, ignored = batch(mode)
    loss = segcore.create_loss(name, mode=mode, **options)
    value = loss(model(x[part]), (ignored if "ignore_index" in options else y)[part])
    value.backward()
    return torch.cat([value.detach()[None], *(p.grad.flatten() for p in model.parameters())])


def work(folder, rank):
    """What each process does: all cases, gradients averaged."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results = {}
    with across_processes():
        for label, mode, (name, options) in cases():
            result = found(mode, name, options, HALVES[rank])
            value = result[0].clone()
            distributed.all_reduce(result)
            results[label] = result / 2
            results[label][0] = value  # each process has the whole value
    apart = found("multiclass", "dice", {}, HALVES[rank])
    torch.save((results, apart), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_losses_and_gradients_of_one(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(rank)],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    for rank in (0, 1):
        results, apart = torch.load(tmp_path / f"{rank}.pt")
        assert len(results) == len(list(cases()))
        for label, mode, (name, options) in cases():
            torch.testing.assert_close(
                results[label], found(mode, name, options, slice(None)), rtol=1e-9, atol=1e-12, msg=f"{rank}: {label}"
            )
        assert torch.equal(apart, found("multiclass", "dice", {}, HALVES[rank]))  # outside, each is alone


def test_one_process_computes_as_without():
    before = found("multiclass", "dice", {}, slice(None))
    with across_processes():
        assert torch.equal(before, found("multiclass", "dice", {}, slice(None)))
    with pytest.raises(ZeroDivisionError), across_processes():
        raise ZeroDivisionError


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]))
