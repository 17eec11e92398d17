"""``segcore raster`` as a command; what it does is in ``job.py``, which loads torch and rasterio."""

from __future__ import annotations

import os
from pathlib import Path

import click
from segcore_plugin_predict import parse_bands


@click.command(name="raster")
@click.argument("checkpoint")
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Result folder.")
@click.option("--probabilities", is_flag=True, help="Write probabilities, one band for each class, not labels.")
@click.option(
    "--core",
    type=click.IntRange(16),
    help="Windows, and blocks written.  [default: the size that the checkpoint was trained on, at least 256; 512 if it "
    "does not record it]",
)
@click.option("--halo", type=click.IntRange(0), default=128, show_default=True, help="Pixels seen around a window.")
@click.option("--bands", callback=parse_bands, metavar="N,N,...", help="Bands to take, counted from 1.")
@click.option("--full-scale", type=float, help="The value that counts as 1.  [default: 255, 65535, or 1 for floats]")
@click.option(
    "--flips", type=click.Choice(["h", "v", "hv"]), help="Average over mirror images: test-time augmentation."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Probability above which the class is present, for one class.",
)
@click.option("--cog", is_flag=True, help="Write Cloud-Optimised GeoTIFFs, with overviews.")
@click.option("--device", help="Such as cpu or cuda.  [default: a GPU if there is one]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: what torch chooses]")
@click.option("--again", is_flag=True, help="Predict also what was finished before.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def raster_command(
    checkpoint: str,
    paths: tuple[str, ...],
    out: Path,
    probabilities: bool,
    core: int | None,
    halo: int,
    bands: tuple[int, ...] | None,
    full_scale: float | None,
    flips: str | None,
    threshold: float,
    cog: bool,
    device: str | None,
    threads: int | None,
    again: bool,
    quiet: bool,
) -> int:
    """Predict georeferenced rasters of any size and number of bands, window by window.

    CHECKPOINT is a folder or 'hf://owner/name'; PATHS are files, folders and patterns. Each result is a GeoTIFF of the
    same size, place and reference system. A raster that fails is reported and left out, and the exit code is 3.
    Started again with the same options, the command leaves finished rasters alone.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: threads that wait must not spin
    from segcore_plugin_raster.job import run

    options = {
        "core": core,
        "halo": halo,
        "output": "probabilities" if probabilities else "labels",
        "bands": bands,
        "full_scale": full_scale,
        "flips": flips or "",
        "threshold": threshold,
        "cloud_optimised": cog,
    }
    return run(checkpoint, paths, out, options, device=device, threads=threads, again=again, quiet=quiet)
