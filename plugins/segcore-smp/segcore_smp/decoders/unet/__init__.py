"""Unet."""

from segcore_smp.decoders.unet.model import Unet

__all__ = ["Unet"]
