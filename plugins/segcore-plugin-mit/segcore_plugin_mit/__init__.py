"""Mix Transformer (SegFormer) encoders for segcore. The published weights are for non-commercial use only."""

from __future__ import annotations

from collections.abc import Iterator

from segcore import EncoderSpec, Weights, hookimpl

__version__ = "0.1.0"

_LICENSE = "NVIDIA Source Code License for SegFormer (non-commercial)"
_WIDE = (64, 128, 320, 512)

# name: channels, blocks per stage, parameters, revision of the weights
_NETWORKS = {
    "mit_b0": ((32, 64, 160, 256), (2, 2, 2, 2), 3_319_392, "9ce53d104d92d75aabb00aae70677aaab67e7c84"),
    "mit_b1": (_WIDE, (2, 2, 2, 2), 13_151_424, "a04bf4f13a549bce677cf79b04852e7510782817"),
    "mit_b2": (_WIDE, (3, 4, 6, 3), 24_196_288, "868ab6f13871dcf8c3d9f90ee4519403475b65ef"),
    "mit_b3": (_WIDE, (3, 4, 18, 3), 44_072_128, "32558d12a65f1daa0ebcf4f4053c4285e2c1cbda"),
    "mit_b4": (_WIDE, (3, 8, 27, 3), 60_842_688, "3a3454e900a4b4f11dd60eeb59101a9a1a36b017"),
    "mit_b5": (_WIDE, (3, 6, 40, 3), 81_443_008, "ced04d96c586b6297fd59a7a1e244fc78fdb6531"),
}


@hookimpl
def segcore_specs() -> Iterator[EncoderSpec]:
    """Yield one record per network."""
    for name, (dims, layers, parameters, revision) in _NETWORKS.items():
        weights = Weights(
            url=f"hf://smp-hub/{name}.imagenet/model.safetensors",
            revision=revision,
            license=_LICENSE,
            source="NVIDIA, https://github.com/NVlabs/SegFormer",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
        yield EncoderSpec(
            name,
            factory="segcore_plugin_mit.encoder:MixTransformerEncoder",
            options={"dims": dims, "layers": layers},
            out_channels=(3, *dims),
            strides=(1, 4, 8, 16, 32),
            weights={"imagenet": weights},
            url="https://arxiv.org/abs/2105.15203",
            parameters=parameters,
        )
