"""Measures losses and metrics against other libraries, in turn in one process: ``python benchmark.py --write``.

One thread, CPU time, medians; only the ratios of one run mean something. ``--write`` puts the table into the README.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from segcore import guard_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    guard_torchvision()

import monai
import monai.losses
import segmentation_models_pytorch as smp
import torchmetrics.functional.classification as tm
from segcore_plugin_losses.metrics import confusion_matrix, get_stats

from segcore import create_loss

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- benchmark: made by tests/benchmark.py -->\n", "<!-- end of benchmark -->"
Run = Callable[[], object]


class Case(NamedTuple):
    """What is measured: two calls, and by how much the first should be faster."""

    name: str
    other: str
    ours: Run
    theirs: Run
    goal: float | None = None


def cases(side: int, classes: int) -> Iterator[Case]:
    """Yield all cases, on 2 images of side x side pixels."""
    torch.manual_seed(0)
    predicted, true = torch.randint(classes, (2, side, side)), torch.randint(classes, (2, side, side))
    left = true.masked_fill(torch.rand(true.shape) < 0.1, 255)
    left_smp = left.masked_fill(left == 255, -1)
    yield Case(
        "get_stats",
        "SMP",
        lambda: get_stats(predicted, true, "multiclass", num_classes=classes),
        lambda: smp.metrics.get_stats(predicted, true, mode="multiclass", num_classes=classes),
        5.0,
    )
    yield Case(
        "get_stats, ignore_index",
        "SMP",
        lambda: get_stats(predicted, left, "multiclass", 255, num_classes=classes),
        lambda: smp.metrics.get_stats(predicted, left_smp, mode="multiclass", num_classes=classes, ignore_index=-1),
        5.0,
    )
    each = {"average": "none", "validate_args": False}
    yield Case(
        "get_stats, of the batch",
        "torchmetrics stat_scores, unchecked",
        lambda: get_stats(predicted, true, "multiclass", num_classes=classes).tp.sum(0),
        lambda: tm.multiclass_stat_scores(predicted, true, classes, **each),
        1.0,
    )
    yield Case(
        "confusion_matrix",
        "torchmetrics, unchecked",
        lambda: confusion_matrix(predicted, true, "multiclass", num_classes=classes),
        lambda: tm.multiclass_confusion_matrix(predicted, true, classes, validate_args=False),
        1.0,
    )
    yield Case(
        "confusion_matrix, ignore_index",
        "torchmetrics, unchecked",
        lambda: confusion_matrix(predicted, left, "multiclass", 255, num_classes=classes),
        lambda: tm.multiclass_confusion_matrix(predicted, left, classes, ignore_index=255, validate_args=False),
        1.0,
    )
    masks, true_masks = torch.rand(2, 8, side, side), torch.randint(2, (2, 8, side, side))
    yield Case(
        "get_stats, multilabel",
        "SMP",
        lambda: get_stats(masks, true_masks, "multilabel", threshold=0.5),
        lambda: smp.metrics.get_stats(masks, true_masks, mode="multilabel", threshold=0.5),
        5.0,
    )
    yield Case(
        "get_stats, multilabel",
        "torchmetrics stat_scores, unchecked",
        lambda: get_stats(masks, true_masks, "multilabel", threshold=0.5).tp.sum(0),
        lambda: tm.multilabel_stat_scores(masks, true_masks, 8, threshold=0.5, **each),
        1.0,
    )
    yield from _losses(side, classes, true, left, true_masks)


def _losses(side: int, classes: int, true: torch.Tensor, left: torch.Tensor, masks: torch.Tensor) -> Iterator[Case]:
    logits = torch.randn(2, classes, side, side, requires_grad=True)
    sigmoids = torch.randn(2, 8, side, side, requires_grad=True)
    hot = torch.nn.functional.one_hot(true, classes).movedim(-1, 1)

    def step(loss: Callable[..., torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> Run:
        def run() -> None:
            x.grad = None
            loss(x, y).backward()

        return run

    def ours(name: str, mode: str = "multiclass", **options: object) -> Callable[..., torch.Tensor]:
        return create_loss(name, mode=mode, **options)

    loss = smp.losses
    yield Case("dice", "SMP", step(ours("dice"), logits, true), step(loss.DiceLoss("multiclass"), logits, true), 2.5)
    yield Case(
        "dice, ignore_index",
        "SMP",
        step(ours("dice", ignore_index=255), logits, left),
        step(loss.DiceLoss("multiclass", ignore_index=255), logits, left),
        2.5,
    )
    theirs = monai.losses.DiceLoss(softmax=True, batch=True)
    yield Case("dice", "MONAI, target already one-hot", step(ours("dice"), logits, true), step(theirs, logits, hot))
    yield Case(
        "dice, multilabel",
        "SMP",
        step(ours("dice", "multilabel"), sigmoids, masks),
        step(loss.DiceLoss("multilabel"), sigmoids, masks),
    )
    yield Case(
        "lovasz", "SMP", step(ours("lovasz"), logits, true), step(loss.LovaszLoss("multiclass"), logits, true), 1.8
    )
    yield Case(
        "lovasz, multilabel",
        "SMP",
        step(ours("lovasz", "multilabel"), sigmoids, masks),
        step(loss.LovaszLoss("multilabel"), sigmoids, masks),
    )
    yield Case(
        "focal, of sigmoids",
        "SMP",
        step(ours("focal", activation="sigmoid"), logits, true),
        step(loss.FocalLoss("multiclass"), logits, true),
    )
    focal = monai.losses.FocalLoss(use_softmax=True)
    yield Case("focal", "MONAI, target already one-hot", step(ours("focal"), logits, true), step(focal, logits, hot))
    yield Case("ce", "torch", step(ours("ce"), logits, true), step(torch.nn.CrossEntropyLoss(), logits, true))
    cldice = monai.losses.SoftclDiceLoss(sigmoid=True)
    yield Case(
        "cldice, multilabel",
        "MONAI",
        step(ours("cldice", "multilabel"), sigmoids, masks),
        step(cldice, sigmoids, masks),
    )


def measure(case: Case, repeats: int) -> tuple[float, float]:
    """Return the medians of the CPU seconds of both sides, run in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    case.ours(), case.theirs()
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            start = time.process_time()
            (case.ours, case.theirs)[side]()
            times[side].append(time.process_time() - start)
    return median(times[0]), median(times[1])


def table(side: int, classes: int, repeats: int) -> str:
    """Return the table of all cases."""
    rows = ["| what | beside | ours, ms | theirs, ms | times as fast | goal |", "|---|---|---|---|---|---|"]
    for case in cases(side, classes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, theirs = measure(case, repeats)
        factor = theirs / ours
        goal = "-" if case.goal is None else f"{case.goal:g}, {'met' if factor >= case.goal else '**missed**'}"
        rows.append(f"| {case.name} | {case.other} | {ours * 1e3:.3g} | {theirs * 1e3:.3g} | {factor:.2f} | {goal} |")
        print(rows[-1], flush=True)
    versions = f"torch {torch.__version__.partition('+')[0]}, SMP {smp.__version__}, MONAI {monai.__version__}"
    note = (
        f"2 images of {side} x {side} pixels, {classes} classes (8 for multilabel); losses forward and backward, fp32; "
        f"{versions}, one CPU thread, medians of {repeats} in turn. Times depend on the machine, ratios less."
    )
    return "\n".join([*rows, "", note, ""])


def main() -> None:
    """Measure, print, and write the README if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = table(arguments.side, arguments.classes, arguments.repeats)
    print(text.splitlines()[-1])
    if arguments.write:
        before, _, rest = README.read_text(encoding="utf-8").partition(START)
        README.write_text(before + START + text + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
