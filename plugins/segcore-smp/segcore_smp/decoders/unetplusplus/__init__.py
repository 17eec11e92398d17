"""UnetPlusPlus."""

from segcore_smp.decoders.unetplusplus.model import UnetPlusPlus

__all__ = ["UnetPlusPlus"]
