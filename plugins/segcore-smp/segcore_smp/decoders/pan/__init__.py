"""PAN."""

from segcore_smp.decoders.pan.model import PAN

__all__ = ["PAN"]
