"""``segcore export`` as a command; what it does is in ``exporting.py``, which loads torch."""

from __future__ import annotations

from pathlib import Path

import click


def _parse_size(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    height, _, width = value.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise click.BadParameter(f"{value!r}: height and width are needed, such as 512x512.")
    return int(height), int(width)


@click.command(name="export")
@click.argument("checkpoint")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch-export", "openvino"]),
    help="Format of the file.  [default: what the suffix of OUT says]",
)
@click.option("--size", callback=_parse_size, metavar="HxW", help="One size of image.  [default: many sizes]")
@click.option("--tolerance", type=float, default=1e-4, show_default=True, help="Largest deviation that is accepted.")
@click.option("--licence", help="Licence of the weights.  [default: that of the encoder's weights]")
def export_command(
    checkpoint: str,
    out: Path,
    kind: str | None,
    size: tuple[int, int] | None,
    tolerance: float,
    licence: str | None,
) -> None:
    """Write a checkpoint in the format of another runtime, and check the file beside the model.

    OUT ends in .onnx, .pt2 (torch-export) or .xml (openvino, which also writes .bin). The file is run on random images
    of several sizes and kept only if it gives what the model gives.
    """
    import segcore
    from segcore_plugin_export.exporting import export

    model = segcore.from_pretrained(checkpoint)
    done = export(model, out, kind, size=size, tolerance=tolerance, licence=licence)
    click.echo("images         deviation  other labels")
    for comparison in done.comparisons:
        click.echo(f"{comparison.shape:<13}  {comparison.deviation:9.1e}  {comparison.labels}")
    click.echo(f"Wrote {out} ({done.format}): {done.sizes}, batches of any number, deviation {done.deviation:.1e}.")
