"""The classic encoders by their usual names: records read from a table, with SMP's published weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from segcore import EncoderSpec, Weights

_TABLE = Path(__file__).with_name("classic.tsv")
_FACTORY = "segcore_plugin_timm.classic:ClassicEncoder"

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
_NORMS = {"dpn": _DPN, "inceptionresnetv2": _HALVES, "inceptionv4": _HALVES, "xception": _HALVES}

DILATING = frozenset({"dpn", "senet", "sknet", "mobilenet", "mobileone"})
MULTIPLES = {"vgg": 32, "densenet": 32, "senet": 4, "sknet": 1}
PAPERS = {
    "vgg": "https://arxiv.org/abs/1409.1556",
    "densenet": "https://arxiv.org/abs/1608.06993",
    "dpn": "https://arxiv.org/abs/1707.01629",
    "senet": "https://arxiv.org/abs/1709.01507",
    "sknet": "https://arxiv.org/abs/1903.06586",
    "inceptionv4": "https://arxiv.org/abs/1602.07261",
    "inceptionresnetv2": "https://arxiv.org/abs/1602.07261",
    "xception": "https://arxiv.org/abs/1610.02357",
    "mobilenet": "https://arxiv.org/abs/1801.04381",
    "mobileone": "https://arxiv.org/abs/2206.04040",
}


@dataclass(frozen=True, slots=True)
class Classic:
    """One line of the table.

    Attributes:
        architecture: timm's name of the plain network.
        family: which taps, key names and dilation it has.
        channels: of the feature maps at strides 1 to 32.
        parameters: number of parameters at depth 5.
        license: of the published weights.
        tags: revision of the published weights by tag.
    """

    architecture: str
    family: str
    channels: tuple[int, ...]
    parameters: int
    license: str
    tags: dict[str, str]


@cache
def classics() -> dict[str, Classic]:
    """Return the table by name."""
    rows = {}
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, architecture, family, channels, parameters, license_name, tags = line.split("\t")
            rows[name] = Classic(
                architecture=architecture,
                family=family,
                channels=tuple(map(int, channels.split())),
                parameters=int(parameters),
                license=license_name,
                tags=dict(tag.split("=") for tag in tags.split()),
            )
    return rows


@cache
def classic_specs() -> dict[str, EncoderSpec]:
    """Return the records of the classic encoders by name."""
    return {name: _spec(name, row) for name, row in classics().items()}


def _spec(name: str, row: Classic) -> EncoderSpec:
    mean, std = _NORMS.get(row.family, _IMAGENET)
    return EncoderSpec(
        name,
        factory=_FACTORY,
        options={"name": name},
        out_channels=row.channels,
        output_strides=(32, 16, 8) if row.family in DILATING else (32,),
        size_multiple=MULTIPLES.get(row.family, 1),
        weights={
            tag: Weights(
                url=f"hf://smp-hub/{name}.{tag.replace('+', '-')}/model.safetensors",
                license=row.license,
                source="segmentation_models_pytorch: smp-hub on the Hugging Face Hub",
                mean=mean,
                std=std,
                revision=revision,
            )
            for tag, revision in row.tags.items()
        },
        url=PAPERS[row.family],
        parameters=row.parameters,
    )
