"""Twelve classic segmentation decoders for segcore."""

from collections.abc import Iterator

from segcore import DecoderSpec, hookimpl

__version__ = "0.1.0"

_TITLES = {
    "Unet": "https://arxiv.org/abs/1505.04597",
    "FPN": "https://arxiv.org/abs/1901.02446",
}


@hookimpl
def segcore_specs() -> Iterator[DecoderSpec]:
    """Yield one record per decoder; module, name and class follow from the title."""
    for title, url in _TITLES.items():
        name = title.lower()
        yield DecoderSpec(name, factory=f"segcore_plugin_decoders.{name}:{title}", title=title, url=url)
