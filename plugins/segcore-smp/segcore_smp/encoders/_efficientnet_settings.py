"""Arguments of timm's ``EfficientNet`` for the published networks (https://arxiv.org/abs/1905.11946)."""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, no-untyped-call, attr-defined"

from functools import partial
from typing import Any

from torch import nn

import segcore

# layers, kernel size, stride, expansion, channels of each stage; of scale 1
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def get_efficientnet_kwargs(channel_multiplier=1.0, depth_multiplier=1.0, drop_rate=0.2):
    """Return arguments of ``timm.models.efficientnet.EfficientNet`` for an EfficientNet.

    Args:
        channel_multiplier: scales channels.
        depth_multiplier: scales numbers of layers, which are rounded up.
        drop_rate: of the classifier.
    """
    common = _common(channel_multiplier, depth_multiplier, drop_rate, squeeze="_se0.25")
    from timm.layers.activations import Swish

    return {
        **common,
        "num_features": common["round_chs_fn"](1280),
        "act_layer": Swish,
    }


def gen_efficientnet_lite_kwargs(channel_multiplier=1.0, depth_multiplier=1.0, drop_rate=0.2):
    """Return arguments of ``timm.models.efficientnet.EfficientNet`` for an EfficientNet-Lite.

    It has no squeeze-and-excite, and its stem, head, and first and last stage do not scale.

    Args:
        channel_multiplier: scales channels.
        depth_multiplier: scales numbers of layers, which are rounded up.
        drop_rate: of the classifier.
    """
    return {
        **_common(channel_multiplier, depth_multiplier, drop_rate, fix_first_last=True),
        "num_features": 1280,
        "fix_stem": True,
        "act_layer": nn.ReLU6,
    }


def _common(width: float, depth: float, drop_rate: float, squeeze: str = "", **options: Any) -> dict[str, Any]:
    segcore.guard_torchvision()
    import timm.models.efficientnet as timm  # takes seconds, and not all need it

    words = [
        [f"{'ir' if index else 'ds'}_r{layers}_k{kernel}_s{stride}_e{expansion}_c{channels}{squeeze}"]
        for index, (layers, kernel, stride, expansion, channels) in enumerate(_STAGES)
    ]
    return {
        "block_args": timm.decode_arch_def(words, depth, **options),
        "stem_size": 32,
        "round_chs_fn": partial(timm.round_channels, multiplier=width),
        "drop_rate": drop_rate,
        "drop_path_rate": 0.2,
    }


def prepare_settings(settings):
    """Return a row of SMP's table of weights: mean and standard deviation per channel in [0, 1], and the address.

    Args:
        settings: one of timm's configurations of weights, with ``mean``, ``std`` and ``url``.
    """
    facts = {name: getattr(settings, name) for name in ("mean", "std", "url")}
    return facts | {"input_range": (0, 1), "input_space": "RGB"}
