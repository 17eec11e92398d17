"""Linknet."""

from segcore_smp.decoders.linknet.model import Linknet

__all__ = ["Linknet"]
