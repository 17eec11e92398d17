"""PSPNet."""

from segcore_smp.decoders.pspnet.model import PSPNet

__all__ = ["PSPNet"]
