"""DPT."""

from segcore_smp.decoders.dpt.model import DPT

__all__ = ["DPT"]
