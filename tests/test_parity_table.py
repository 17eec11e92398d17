"""The page of parity with SMP's checkpoints covers what it says, and rows of it are measured again."""

import re

import pytest
import torch

from tests import parity_table

ROWS = re.findall(
    r"^\| `(\w+)` \| `([\w.-]+)` \| (0|[\d.e-]+) \| (0|[\d.e-]+) \|$",
    parity_table.PAGE.read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)
FAMILIES = {
    "resnet18": "resnet",
    "efficientnet-b0": "efficientnet",
    "mobilenet_v2": "mobilenet",
    "mit_b0": "mit",
    "tu-convnext_atto": "convnext",
    "tu-mixer_s16_224": "mixer",
    "tu-regnetx_002": "regnet",
    "tu-vit_small_patch16_dinov3": "eva",
    "tu-vit_tiny_patch16_224": "vit",
}
LIVE = [
    ("MAnet", "mobilenet_v2"),
    ("DeepLabV3Plus", "tu-regnetx_002"),
    ("Segformer", "mit_b0"),
    ("DPT", "tu-convnext_atto"),
]


def test_the_page_is_what_the_script_writes():
    assert [(title, encoder) for title, encoder, *_ in ROWS] == list(parity_table.pairs())
    text = parity_table.PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert without_versions(parity_table.page(rows)) == without_versions(text)


def without_versions(text):
    return re.sub(r"\d+\.\d+\.\d+", "", text)


def test_every_architecture_has_three_families_of_encoders():
    found = {
        title: {FAMILIES[encoder] for name, encoder in parity_table.pairs() if name == title}
        for title in parity_table.TITLES
    }
    assert len(found) == 12
    assert all(len(families) >= 3 for families in found.values()), found


def test_no_row_is_above_the_tolerance():
    assert max(float(relative) for *_, relative in ROWS) <= parity_table.TOLERANCE


@pytest.mark.parametrize(
    ("title", "encoder"),
    [pytest.param(*pair, marks=() if pair in LIVE else pytest.mark.slow) for pair in parity_table.pairs()],
)
def test_a_row_measured_again(title, encoder):
    _, relative = parity_table.difference(title, encoder)
    assert relative <= parity_table.TOLERANCE


def test_another_weight_shows():
    """The comparison can fail: a model that lost one statistic differs."""
    theirs = parity_table.smp_model("FPN", "resnet18")
    other = parity_table.smp_model("FPN", "resnet18")
    other.encoder.layer4[1].bn2.running_mean.add_(0.1)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert (theirs(x)[0] - other(x)[0]).abs().max() > 1e-3
