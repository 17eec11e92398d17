"""EfficientNet and EfficientNet-Lite with the names of timm."""

# ruff: noqa: ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from torch import nn

from segcore_smp.encoders import _draw
from segcore_smp.encoders._efficientnet_settings import (
    gen_efficientnet_lite_kwargs,
    get_efficientnet_kwargs,
    prepare_settings,
)
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse
from segcore_smp.encoders.efficientnet import add_head

__all__ = [
    "EfficientNetBaseEncoder",
    "EfficientNetEncoder",
    "EfficientNetLiteEncoder",
    "gen_efficientnet_lite_kwargs",
    "get_efficientnet_kwargs",
    "prepare_settings",
    "timm_efficientnet_encoders",
]

_STAGES = [2, 3, 5]
_SCALES = {
    "timm-efficientnet-b0": (1.0, 1.0, 0.2),
    "timm-efficientnet-b1": (1.0, 1.1, 0.2),
    "timm-efficientnet-b2": (1.1, 1.2, 0.3),
    "timm-efficientnet-b3": (1.2, 1.4, 0.3),
    "timm-efficientnet-b4": (1.4, 1.8, 0.4),
    "timm-efficientnet-b5": (1.6, 2.2, 0.4),
    "timm-efficientnet-b6": (1.8, 2.6, 0.5),
    "timm-efficientnet-b7": (2.0, 3.1, 0.5),
    "timm-efficientnet-b8": (2.2, 3.6, 0.5),
    "timm-efficientnet-l2": (4.3, 5.3, 0.5),
    "timm-tf_efficientnet_lite0": (1.0, 1.0, 0.2),
    "timm-tf_efficientnet_lite1": (1.0, 1.1, 0.2),
    "timm-tf_efficientnet_lite2": (1.1, 1.2, 0.3),
    "timm-tf_efficientnet_lite3": (1.2, 1.4, 0.3),
    "timm-tf_efficientnet_lite4": (1.4, 1.8, 0.4),
}


class EfficientNetBaseEncoder(NetworkEncoder):
    """Base of both.

    Args:
        stage_idxs: where its stages end.
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
        **kwargs: ``network``, the name.
    """

    _draw = staticmethod(_draw.timm_efficientnet)

    def __init__(
        self,
        stage_idxs: List[int],
        out_channels: List[int],
        depth: int = 5,
        output_stride: int = 32,
        **kwargs,  # noqa: ANN003
    ):
        network = kwargs.pop("network", None)
        known = network in _SCALES and list(stage_idxs) == _STAGES
        refuse(type(self).__name__, kwargs if known else {"stage_idxs": stage_idxs, **kwargs})
        self._build(network, out_channels, depth, output_stride)

    def _complete(self, tree: nn.Module) -> None:
        add_head(tree, tree.out_channels[-1])  # type: ignore[index, arg-type]


class EfficientNetEncoder(EfficientNetBaseEncoder):
    """EfficientNet.

    Args:
        stage_idxs: where its stages end.
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        channel_multiplier: scales channels; one of the published.
        depth_multiplier: scales the number of blocks; one of the published.
        drop_rate: of the classifier, which is not built.
        output_stride: 32, or what `make_dilated` will be called with.
    """

    def __init__(
        self,
        stage_idxs: List[int],
        out_channels: List[int],
        depth: int = 5,
        channel_multiplier: float = 1.0,
        depth_multiplier: float = 1.0,
        drop_rate: float = 0.2,
        output_stride: int = 32,
    ):
        network = _network("timm-efficientnet", channel_multiplier, depth_multiplier, drop_rate)
        super().__init__(stage_idxs, out_channels, depth, output_stride, network=network)


class EfficientNetLiteEncoder(EfficientNetBaseEncoder):
    """EfficientNet-Lite.

    Args:
        stage_idxs: where its stages end.
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        channel_multiplier: scales channels; one of the published.
        depth_multiplier: scales the number of blocks; one of the published.
        drop_rate: of the classifier, which is not built.
        output_stride: 32, or what `make_dilated` will be called with.
    """

    def __init__(
        self,
        stage_idxs: List[int],
        out_channels: List[int],
        depth: int = 5,
        channel_multiplier: float = 1.0,
        depth_multiplier: float = 1.0,
        drop_rate: float = 0.2,
        output_stride: int = 32,
    ):
        network = _network("timm-tf_efficientnet_lite", channel_multiplier, depth_multiplier, drop_rate)
        super().__init__(stage_idxs, out_channels, depth, output_stride, network=network)


def _network(family: str, channels: float, depth: float, drop_rate: float) -> str:
    """Return the name of the network with these multipliers; the rate, of a layer that is not built, may be any."""
    found = [name for name, scales in _SCALES.items() if name.startswith(family) and scales[:2] == (channels, depth)]
    given = {"channel_multiplier": channels, "depth_multiplier": depth, "drop_rate": drop_rate}
    refuse(family, {} if found else given)
    return found[0]


timm_efficientnet_encoders = {
    name: entry(
        EfficientNetLiteEncoder if "lite" in name else EfficientNetEncoder,
        name,
        stage_idxs=list(_STAGES),
        channel_multiplier=channels,
        depth_multiplier=depth,
        drop_rate=drop_rate,
    )
    for name, (channels, depth, drop_rate) in _SCALES.items()
}
