"""``segcore raster`` from end to end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import rasterio  # type: ignore[import-untyped]
import torch
from rasterio.errors import RasterioError  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from segcore_plugin_predict import find_inputs, fingerprint, trained_size

import segcore
from segcore import OptionValueError, SegcoreError
from segcore_plugin_raster.windows import default_core, predict_raster

TAG = "SEGCORE_PREDICTION"
SOME_FAILED = 3


def run(
    checkpoint: str,
    paths: Sequence[str],
    out: Path,
    options: Mapping[str, Any],
    *,
    device: str | None,
    threads: int | None,
    again: bool,
    quiet: bool,
) -> int:
    """Predict all rasters and return the exit code: 0, or 3 if some failed; the arguments are the command's options.

    Raises:
        SegcoreError: nothing can be done: wrong options, no raster, no checkpoint.
    """
    rasters = find_inputs(paths, out)
    if threads:
        torch.set_num_threads(threads)
    model = segcore.from_pretrained(checkpoint)
    segcore.preprocessing(model)  # refused now rather than for each raster
    options = {**options, "core": options["core"] or default_core(model)}
    settings = fingerprint(model, options)
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    console = Console(stderr=True)
    if not quiet:
        size = trained_size(model)
        trained = f" (trained on {size[0]} x {size[1]})" if size else ""
        seen = f"each seen with {options['halo']} more on every side"
        console.print(f"Windows of {options['core']} x {options['core']} pixels{trained}, {seen}.", highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("windows"))
    done, before, failed = 0, 0, 0
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal
    ) as progress:
        for raster in rasters:
            target = out / f"{raster.name}.tif"
            try:
                tag = _tag(raster.path, settings)
                if not again and _tag_of(target) == tag:
                    before += 1
                    continue
                _make_folder(target.parent)
                task = progress.add_task(raster.name, total=None)
                predict_raster(
                    model,
                    raster.path,
                    target,
                    **options,
                    tags={TAG: tag},
                    progress=lambda count, total, task=task: progress.update(task, completed=count, total=total),  # type: ignore[misc]
                )
                done += 1
            except OptionValueError:
                raise  # it would be the same for every raster
            except Exception as error:
                failed += 1
                text = error if isinstance(error, SegcoreError) else f"{raster.path}: {type(error).__name__}: {error}"
                console.print(f"Skipped {text}", markup=False, highlight=False, soft_wrap=True)
    earlier = f", {before} were there already" if before else ""
    trouble = f", {failed} failed" if failed else ""
    click.echo(f"Predicted {done} of {len(rasters)} rasters{earlier}{trouble}. See {out}.")
    return SOME_FAILED if failed else 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionValueError(f"--out {str(folder)!r} cannot be made: {error}. Choose another place.") from error


def _tag(path: Path, settings: str) -> str:
    facts = path.stat()
    return json.dumps({"settings": settings, "bytes": facts.st_size, "modified": facts.st_mtime_ns})


def _tag_of(target: Path) -> str | None:
    if not target.is_file():
        return None
    try:
        with rasterio.open(target) as result:
            tag: str | None = result.tags().get(TAG)
            return tag
    except RasterioError:
        return None
