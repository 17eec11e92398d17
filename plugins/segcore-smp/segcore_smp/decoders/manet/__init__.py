"""MAnet."""

from segcore_smp.decoders.manet.model import MAnet

__all__ = ["MAnet"]
