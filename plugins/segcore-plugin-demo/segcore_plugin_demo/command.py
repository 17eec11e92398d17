"""``segcore demo`` as a command; what it does is in ``run.py``, which loads torch."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option("--encoder", default="resnet18", show_default=True, help="Any installed encoder.")
@click.option("--decoder", default="unet", show_default=True, help="Any installed decoder.")
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True, help="Training steps of 8 crops each.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Same seed, same result.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="segcore-demo", show_default=True, help="Result folder."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: what torch chooses]")
@click.option("--image", type=click.Path(path_type=Path), help="Your own image instead of the coins; needs --mask.")
@click.option("--mask", type=click.Path(path_type=Path), help="Its mask, same size: any value but 0 is an object.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
def demo(
    encoder: str,
    decoder: str,
    steps: int,
    seed: int,
    out: Path,
    threads: int | None,
    image: Path | None,
    mask: Path | None,
    as_json: bool,
) -> None:
    """Train a model on one half of a photograph and test it on the other half.

    Needs no data, no download and no GPU: a photograph of 24 coins comes with the package. Writes a picture of the
    result, the checkpoint and a script that reloads it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: threads that wait must not spin
    from segcore_plugin_demo.run import run

    run(encoder, decoder, steps, seed, out, threads=threads, image=image, mask=mask, as_json=as_json)
