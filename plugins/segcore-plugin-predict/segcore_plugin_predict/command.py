"""``segcore predict`` as a command; what it does is in ``engine.py`` and ``job.py``, which load torch."""

from __future__ import annotations

import os
from pathlib import Path

import click

from segcore import OptionValueError


def parse_bands(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the bands that an option ``--bands 1,2,3`` names, None without it: a callback for click."""
    if value is None:
        return None
    try:
        return tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}: numbers with commas are needed, such as 1,2,3.") from None


@click.command(name="predict")
@click.argument("checkpoint")
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Result folder.")
@click.option("--probabilities", is_flag=True, help="Also write probabilities, as compressed .npz.")
@click.option("--overlays", is_flag=True, help="Also write pictures to look at.")
@click.option(
    "--flips", type=click.Choice(["h", "v", "hv"]), help="Average over mirror images: test-time augmentation."
)
@click.option(
    "--tile",
    type=click.IntRange(0),
    help="Height and width of tiles; 0 for whole images.  [default: for images of more than 2 million pixels the size "
    "that the checkpoint was trained on, 1024 if it does not record it]",
)
@click.option(
    "--overlap", type=click.IntRange(0), help="Pixels that tiles share.  [default: 128, or a quarter of smaller tiles]"
)
@click.option(
    "--blend",
    type=click.Choice(["gaussian", "linear", "crop"]),
    default="gaussian",
    show_default=True,
    help="How tiles meet.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images of one size, or tiles, per call; more for a GPU and for small images.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Probability above which a class is present, for one class and for several labels.",
)
@click.option("--multilabel/--no-multilabel", default=None, help="Whether a pixel may have several classes.")
@click.option("--bands", callback=parse_bands, metavar="N,N,...", help="Bands to take, counted from 1.")
@click.option(
    "--alpha",
    type=click.Choice(["refuse", "drop", "black", "white"]),
    default="refuse",
    show_default=True,
    help="What becomes of transparent pixels.",
)
@click.option("--full-scale", type=float, help="The value that counts as 1.  [default: 255, 65535, or 1 for floats]")
@click.option("--frame", type=click.IntRange(0), help="Page or frame of files with several, counted from 0.")
@click.option(
    "--max-pixels", type=click.IntRange(1), default=200_000_000, show_default=True, help="Refuse larger ones."
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    metavar="NAME",
    help="Where images are predicted: local, or what a package adds, such as ray.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes of engines other than local.")
@click.option(
    "--backend",
    default="torch",
    show_default=True,
    metavar="NAME",
    help="What runs the network: torch, or what a package adds, such as onnxruntime or openvino.",
)
@click.option("--device", help="Such as cpu or cuda.  [default: a GPU if there is one]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: what torch chooses]")
@click.option("--again", is_flag=True, help="Predict also what was finished before.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def predict_command(
    checkpoint: str,
    paths: tuple[str, ...],
    out: Path,
    probabilities: bool,
    overlays: bool,
    flips: str | None,
    tile: int | None,
    overlap: int | None,
    blend: str,
    batch: int,
    threshold: float,
    multilabel: bool | None,
    bands: tuple[int, ...] | None,
    alpha: str,
    full_scale: float | None,
    frame: int | None,
    max_pixels: int,
    engine: str,
    workers: int | None,
    backend: str,
    device: str | None,
    threads: int | None,
    again: bool,
    quiet: bool,
) -> int:
    """Predict images: files, folders, and patterns such as 'photos/**/*.jpg'.

    CHECKPOINT is a folder or 'hf://owner/name'. For each image a label map is written, a PNG whose values are classes
    and whose palette makes them visible, and areas.csv lists how much of each image belongs to which class. An image
    that cannot be read is reported and left out, and the exit code is 3. Started again with the same options, the
    command continues where it stopped. Georeferenced TIFFs keep their place if segcore-plugin-raster is installed.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: threads that wait must not spin
    from segcore_plugin_predict.extensions import LOCAL, find_engine

    if engine == LOCAL and workers is not None:
        raise OptionValueError("--workers is for engines other than local, which is one process. Choose one: --engine.")
    found = None if engine == LOCAL else find_engine(engine)  # refused before torch is loaded
    from segcore_plugin_predict.engine import run
    from segcore_plugin_predict.job import Job
    from segcore_plugin_predict.reading import ReadOptions

    job = Job(
        checkpoint=checkpoint,
        out=out,
        probabilities=probabilities,
        overlays=overlays,
        flips=flips or "",
        tile=tile,
        overlap=overlap,
        blend=blend,
        batch=batch,
        threshold=threshold,
        multilabel=multilabel,
        reading=ReadOptions(bands, alpha, full_scale, frame, max_pixels),
        device=device,
        threads=threads,
        again=again,
        quiet=quiet,
        backend=backend,
        workers=workers,
    )
    return (found or run)(job, paths)
