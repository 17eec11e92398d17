"""What models are made of, and what people's own models inherit from."""

from segcore_smp.base.heads import ClassificationHead, SegmentationHead
from segcore_smp.base.model import SegmentationModel
from segcore_smp.base.modules import Attention, Conv2dReLU

__all__ = ["Attention", "ClassificationHead", "Conv2dReLU", "SegmentationHead", "SegmentationModel"]
