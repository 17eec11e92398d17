"""`TimmUniversalEncoder`: any of timm's networks."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import segcore
from segcore_smp.encoders._base import feature_info
from segcore_smp.view import View

_TAKEN = ("img_size", "drop_path_rate")
_NEEDLESS = ("dynamic_img_size", "strict_img_size")  # any size works where the network allows it


class TimmUniversalEncoder(View):
    """A network of timm's as a pyramid.

    Args:
        name: timm's, with or without a tag.
        pretrained: load published weights.
        in_channels: channels of the image.
        depth: number of downsampling stages in use.
        output_stride: 32, or 16 and 8 where the network can be dilated.
        **kwargs: ``img_size``, ``drop_path_rate``.

    Raises:
        ValueError: a depth that is not 1 to 5, or a network that gives no pyramid.
        UnknownOptionError: another argument.
    """

    _is_torch_scriptable = False
    _is_torch_exportable = True
    _is_torch_compilable = True

    def __init__(  # noqa: ANN204
        self,
        name: str,
        pretrained: bool = True,
        in_channels: int = 3,
        depth: int = 5,
        output_stride: int = 32,
        **kwargs: dict[str, Any],
    ):
        if depth not in range(1, 6):
            raise ValueError(f"depth={depth!r}: {type(self).__name__} has depths 1 to 5.")
        super().__init__()
        self.name = name
        net: Any = segcore.create_encoder(
            timm_name(name),
            weights=default_tag(name) if pretrained else None,
            in_channels=in_channels,
            depth=depth,
            **({} if output_stride == 32 else {"output_stride": output_stride}),
            **timm_options(name, kwargs),
        )
        strides = net.nominal_strides
        if depth == 5 and (16 not in strides or len(set(strides)) < len(strides)):
            raise segcore.IncompatiblePartsError(
                f"{name!r} has maps of the strides {strides}, which is no pyramid. Use DPT for a plain ViT."
            )
        self._show(net)
        self._in_channels, self._depth, self._output_stride = in_channels, depth, output_stride
        self._out_channels = list(net.out_channels)
        self._lacks_stride_2 = depth > 1 and 2 not in net.strides
        if self._lacks_stride_2:
            self._out_channels.insert(1, 0)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return ``depth + 1`` maps, finest first; the level that a transformer lacks has 0 channels."""
        features: list[Tensor] = list(self._net(x))
        if self._lacks_stride_2:
            features.insert(1, x.new_empty(x.shape[0], 0, x.shape[2] // 2, x.shape[3] // 2))
        return features

    @property
    def out_channels(self) -> list[int]:
        """Channels of each map."""
        return self._out_channels

    @property
    def output_stride(self) -> int:
        """Stride of the deepest map."""
        return int(min(self._output_stride, 2**self._depth))

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self._in_channels

    @property
    def feature_info(self) -> segcore.FeatureInfo:
        """The maps that have channels."""
        return feature_info(self.out_channels, self._output_stride)


def timm_name(name: str) -> str:
    """Return segcore's name of one of timm's networks.

    Raises:
        UnknownNameError: timm has no such network.
    """
    return str(segcore.encoders[f"tu-{name}"].name)


def default_tag(name: str) -> str:
    """Return the tag of the published weights that timm loads by itself for a name.

    Raises:
        WeightsError: there are none, or segcore knows no fixed file for them.
    """
    spec = segcore.encoders[f"tu-{name}"]
    tag = (published(name) or {}).get("tag")
    if tag in spec.weights:
        return str(tag)
    raise segcore.WeightsError(
        f"the weights of timm's {name!r} ({tag or 'none are published'}) have no fixed commit here. Name the one "
        f"you trust: load segcore.create_encoder({spec.name!r}, weights='<tag>@<commit>').state_dict() into it."
    )


def published(name: str) -> dict[str, Any] | None:
    """Return timm's facts about the weights that it loads by itself for a name, or None if there are none."""
    segcore.guard_torchvision()
    import timm  # takes seconds, and models of other families do without

    facts = timm.models.get_pretrained_cfg(name) if timm.models.is_model_pretrained(name) else None
    return None if facts is None else dict(vars(facts))


def timm_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for segcore's encoder; those that are None or needless are left out.

    Raises:
        UnknownOptionError: another argument.
    """
    options = {key: value for key, value in given.items() if value is not None and key not in _NEEDLESS}
    unknown = sorted(set(options) - set(_TAKEN))
    if unknown:
        raise segcore.UnknownOptionError(
            f"{name!r} takes no {', '.join(map(repr, unknown))}; arguments for timm's networks are "
            f"{', '.join(map(repr, _TAKEN))}. If it was meant for the decoder, look at its spelling."
        )
    return options
