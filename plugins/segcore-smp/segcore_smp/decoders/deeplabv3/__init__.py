"""DeepLabV3 and DeepLabV3+."""

from segcore_smp.decoders.deeplabv3.model import DeepLabV3, DeepLabV3Plus

__all__ = ["DeepLabV3", "DeepLabV3Plus"]
