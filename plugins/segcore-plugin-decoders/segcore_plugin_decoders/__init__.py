"""Twelve classic segmentation decoders for segcore."""

from collections.abc import Iterator

from segcore import DecoderSpec, hookimpl

__version__ = "0.1.0"

_TITLES = {
    "Unet": "https://arxiv.org/abs/1505.04597",
    "UnetPlusPlus": "https://arxiv.org/abs/1807.10165",
    "MAnet": "https://ieeexplore.ieee.org/document/9201310",
    "Linknet": "https://arxiv.org/abs/1707.03718",
    "FPN": "https://arxiv.org/abs/1901.02446",
    "PSPNet": "https://arxiv.org/abs/1612.01105",
    "PAN": "https://arxiv.org/abs/1805.10180",
    "DeepLabV3": "https://arxiv.org/abs/1706.05587",
    "DeepLabV3Plus": "https://arxiv.org/abs/1802.02611",
    "UPerNet": "https://arxiv.org/abs/1807.10221",
    "Segformer": "https://arxiv.org/abs/2105.15203",
    "DPT": "https://arxiv.org/abs/2103.13413",
}


@hookimpl
def segcore_specs() -> Iterator[DecoderSpec]:
    """Yield one record per decoder; module, name and class follow from the title."""
    for title, url in _TITLES.items():
        name = title.lower()
        yield DecoderSpec(name, factory=f"segcore_plugin_decoders.{name}:{title}", title=title, url=url)
