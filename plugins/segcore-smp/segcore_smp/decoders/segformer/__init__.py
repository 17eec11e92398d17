"""Segformer."""

from segcore_smp.decoders.segformer.model import Segformer

__all__ = ["Segformer"]
