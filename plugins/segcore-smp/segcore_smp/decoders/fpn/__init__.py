"""FPN."""

from segcore_smp.decoders.fpn.model import FPN

__all__ = ["FPN"]
