"""`predict_files`: the engine as a function."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from segcore_plugin_predict import Job, ReadOptions

from segcore_plugin_ray.engine import run_at


def predict_files(
    checkpoint: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    address: str | None = None,
    probabilities: bool = False,
    overlays: bool = False,
    flips: str = "",
    tile: int | None = None,
    overlap: int | None = None,
    blend: str = "gaussian",
    batch: int = 1,
    threshold: float = 0.5,
    multilabel: bool | None = None,
    reading: ReadOptions | None = None,
    backend: str = "torch",
    device: str | None = None,
    threads: int | None = None,
    again: bool = False,
    quiet: bool = True,
) -> int:
    """Predict images on many processes or machines: what ``segcore predict --engine ray`` does.

    If Ray runs in this process already, it is used and left running. What is finished in `out` is not done again, and
    ``out/manifest.jsonl`` says what became of each image, see `read_manifest`.

    Args:
        checkpoint: a folder, or ``"hf://owner/name"``. All machines must reach it, the images and `out` under the
            same paths.
        paths: files, folders and patterns.
        out: the result folder.
        workers: processes; None for one for each GPU, or without GPUs one for each `threads` CPUs.
        address: of a Ray cluster, ``"auto"`` for the one of this machine, ``"local"`` to start one on this machine
            alone for the duration of the call; None for the variable ``RAY_ADDRESS``, and without it ``"local"``.
        probabilities: also write probabilities.
        overlays: also write pictures to look at.
        flips: ``""``, ``"h"``, ``"v"`` or ``"hv"``.
        tile: height and width of tiles in pixels, 0 for none; None as ``--tile``.
        overlap: pixels that tiles share; None as ``--overlap``.
        blend: ``"gaussian"``, ``"linear"`` or ``"crop"``.
        batch: tiles in one call of the model.
        threshold: probability above which a class is present, for one class and for several labels.
        multilabel: whether a pixel may have several classes; None for what the model's activation says.
        reading: what images do not say themselves.
        backend: what runs the network.
        device: ``"cpu"`` or ``"cuda"``; None for GPUs where Ray has any.
        threads: CPU threads of each worker; None for 1.
        again: predict also what was finished before.
        quiet: show no progress.

    Returns:
        0, or 3 if some images failed.

    Raises:
        SegcoreError: nothing can be done: wrong options, no image, no checkpoint, no room for the workers, or results
            cannot be written.
    """
    job = Job(
        checkpoint=os.fspath(checkpoint),
        out=Path(out),
        probabilities=probabilities,
        overlays=overlays,
        flips=flips,
        tile=tile,
        overlap=overlap,
        blend=blend,
        batch=batch,
        threshold=threshold,
        multilabel=multilabel,
        reading=reading or ReadOptions(),
        device=device,
        threads=threads,
        again=again,
        quiet=quiet,
        backend=backend,
        workers=workers,
    )
    return run_at(job, [os.fspath(path) for path in paths], address)
