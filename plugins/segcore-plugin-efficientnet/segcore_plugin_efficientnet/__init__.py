"""EfficientNet and EfficientNet-Lite encoders for segcore."""

from __future__ import annotations

from collections.abc import Iterator

from segcore import EncoderSpec, hookimpl
from segcore_plugin_efficientnet.weights import weights_of

__version__ = "0.1.0"

# name: width and depth multiplier, nominal size, channels of the feature maps below the image, parameters
_PORT = {
    "efficientnet-b0": (1.0, 1.0, 224, (32, 24, 40, 112, 320), 3_595_388),
    "efficientnet-b1": (1.0, 1.1, 240, (32, 24, 40, 112, 320), 6_101_024),
    "efficientnet-b2": (1.1, 1.2, 260, (32, 24, 48, 120, 352), 7_202_562),
    "efficientnet-b3": (1.2, 1.4, 300, (40, 32, 48, 136, 384), 10_103_336),
    "efficientnet-b4": (1.4, 1.8, 380, (48, 32, 56, 160, 448), 16_742_216),
    "efficientnet-b5": (1.6, 2.2, 456, (48, 40, 64, 176, 512), 27_288_112),
    "efficientnet-b6": (1.8, 2.6, 528, (56, 40, 72, 200, 576), 39_403_992),
    "efficientnet-b7": (2.0, 3.1, 600, (64, 48, 80, 224, 640), 62_143_440),
}
_TIMM = {f"timm-{name}": row for name, row in _PORT.items()} | {
    "timm-efficientnet-b8": (2.2, 3.6, 672, (72, 56, 88, 248, 704), 82_608_046),
    "timm-efficientnet-l2": (4.3, 5.3, 800, (136, 104, 176, 480, 1376), 467_219_796),
}
_LITE = {
    "timm-tf_efficientnet_lite0": (1.0, 1.0, 224, (32, 24, 40, 112, 320), 2_958_848),
    "timm-tf_efficientnet_lite1": (1.0, 1.1, 240, (32, 24, 40, 112, 320), 3_723_520),
    "timm-tf_efficientnet_lite2": (1.1, 1.2, 260, (32, 24, 48, 120, 352), 4_357_952),
    "timm-tf_efficientnet_lite3": (1.2, 1.4, 300, (32, 32, 48, 136, 384), 6_422_016),
    "timm-tf_efficientnet_lite4": (1.4, 1.8, 380, (32, 32, 56, 160, 448), 11_149_568),
}


@hookimpl
def segcore_specs() -> Iterator[EncoderSpec]:
    """Yield one record per network."""
    for name, (width, deep, size, channels, parameters) in (_PORT | _TIMM | _LITE).items():
        port, lite = name in _PORT, name in _LITE
        yield EncoderSpec(
            name,
            factory="segcore_plugin_efficientnet.encoder:EfficientNetEncoder",
            options={
                "width_multiplier": width,
                "depth_multiplier": deep,
                "lite": lite,
                "stride16_block": 0 if name == "efficientnet-b0" else -1,
            },
            defaults={
                "padding": "static" if port else "symmetric",
                "nominal_size": size,
                "norm_eps": 1e-3 if port else 1e-5,
                "norm_momentum": 0.01 if port else 0.1,
            },
            out_channels=(3, *channels),
            aliases=(name.removeprefix("timm-tf_"),) if lite else (),
            output_strides=(8, 16, 32),
            weights=weights_of(name),
            url="https://arxiv.org/abs/1905.11946",
            parameters=parameters,
        )
