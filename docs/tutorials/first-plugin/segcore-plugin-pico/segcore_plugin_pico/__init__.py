"""Pico encoders for segcore: the records of what this package offers.

Listing names imports this module, so it must stay light: torch is imported where the networks are.
"""

from __future__ import annotations

from collections.abc import Iterator

from segcore import EncoderSpec, Weights, hookimpl

__version__ = "0.1.0"

_COINS = Weights(
    url="package://segcore_plugin_pico/pico-small-coins.safetensors",
    sha256="8c49b42ecaf5832493e9c9fd1917b5393073e99a0b819e209c5234fddaa3492d",
    license="MIT",
    source="segcore demo --encoder pico-small, 60 steps on half a photograph of 24 coins",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)


@hookimpl
def segcore_specs() -> Iterator[EncoderSpec]:
    """Yield one record per name."""
    yield EncoderSpec(
        "pico-small",
        factory="segcore_plugin_pico.encoder:PicoEncoder",
        options={"width": 8},
        out_channels=(3, 8, 16, 32, 64, 128),
        weights={"coins": _COINS},
    )
