"""Saves models with segmentation_models_pytorch, loads them with segcore and compares: ``python tests/parity_table.py``.

With ``--write`` the table goes to ``docs/reference/smp-parity.md``.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "smp-parity.md"
TOLERANCE = 1e-5
TITLES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet",
    "Segformer", "DPT",
)  # fmt: skip
CONVOLUTIONAL = ("resnet18", "efficientnet-b0", "mobilenet_v2", "tu-regnetx_002", "tu-convnext_atto")
VITS = ("tu-vit_tiny_patch16_224", "tu-vit_small_patch16_dinov3", "tu-mixer_s16_224", "tu-convnext_atto")
NO_MIT = {"UnetPlusPlus", "Linknet", "PAN", "DeepLabV3", "DeepLabV3Plus"}  # SMP refuses it, or breaks it by dilation


def pairs() -> Iterator[tuple[str, str]]:
    """Yield SMP's classes with the encoders that each is compared with: of three families or more."""
    for title in TITLES:
        if title == "DPT":
            yield from ((title, encoder) for encoder in VITS)
        else:
            yield from ((title, encoder) for encoder in CONVOLUTIONAL)
            if title not in NO_MIT:
                yield title, "mit_b0"


def smp_model(title: str, encoder: str) -> torch.nn.Module:
    """Return a model of SMP's in which every parameter and statistic has a value of its own."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SMP's own, of empty tensors
        model = getattr(smp, title)(encoder, encoder_weights=None, classes=3, aux_params=_labels(title))
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif value.ndim == 1 and value.is_floating_point():
            value.add_(torch.randn_like(value) * 0.1)
    return model.eval()


def _labels(title: str) -> dict[str, int] | None:
    return None if title == "DPT" else {"classes": 5}


def difference(title: str, encoder: str) -> tuple[float, float]:
    """Return the largest difference of masks and labels, absolute and as a share of the largest value of SMP's."""
    import segcore

    theirs = smp_model(title, encoder)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = segcore.from_pretrained(folder)
        size = (224, 224) if title == "DPT" else (128, 160)  # most of SMP's ViTs take one size
        x = torch.rand(1, 3, *size)
        with torch.no_grad():
            found, wanted = ours(x), theirs(x)
    tuples = [y if isinstance(y, tuple) else (y,) for y in (found, wanted)]
    differences = []
    for one, two in zip(*tuples, strict=True):
        if one.shape != two.shape:
            raise AssertionError(f"{title} with {encoder}: {tuple(one.shape)} instead of {tuple(two.shape)}")
        absolute = float((one - two).abs().max())
        differences.append((absolute, absolute / float(two.abs().max())))
    return max(a for a, _ in differences), max(r for _, r in differences)


def row(title: str, encoder: str) -> str:
    """Return a line of the table, measured now."""
    absolute, relative = difference(title, encoder)
    return f"| `{title}` | `{encoder}` | {_short(absolute)} | {_short(relative)} |"


def _short(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def page(rows: list[str]) -> str:
    """Return the page of the documentation."""
    text = "\n".join(rows)
    return f"""# Checkpoints of SMP, compared

Each row is a model that segmentation_models_pytorch (SMP) {version("segmentation_models_pytorch")} built with random \
weights and statistics and saved with
`save_pretrained`, and that `segcore.from_pretrained` read. Both got the same image. The difference is the largest of
all values of the mask (three classes) and, where the architecture has them, of the labels of a classification head;
the last column is that difference as a share of the largest value of SMP's.

The table is written by `python tests/parity_table.py --write`, here with torch {version("torch").partition("+")[0]} \
and timm {version("timm")} on a CPU. The tests
measure some of the rows again and refuse any above {TOLERANCE:.0e} of the largest value. Published weights were not
compared: weights only pass through, and random ones show a wrong layer just as well.

SMP refuses `mit_b0` in `UnetPlusPlus` and `Linknet`, and breaks it where `PAN`, `DeepLabV3` and `DeepLabV3Plus` dilate
it. `DPT` takes only encoders of timm.

| SMP's class | SMP's encoder | largest difference | relative |
| --- | --- | --- | --- |
{text}
"""


def main() -> None:
    """Print the table, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write docs/reference/{PAGE.name}")
    arguments = parser.parse_args()
    rows = []
    for pair in pairs():
        rows.append(row(*pair))
        print(rows[-1], flush=True)
    if arguments.write:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    from segcore import guard_torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that detection operators are missing does not matter here
        guard_torchvision()
    main()
