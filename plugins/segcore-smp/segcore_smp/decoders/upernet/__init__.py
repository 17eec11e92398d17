"""UPerNet."""

from segcore_smp.decoders.upernet.model import UPerNet

__all__ = ["UPerNet"]
