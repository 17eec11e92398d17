"""The shipped kit over all that this package registers; networks are built for the smallest of each family."""

from segcore.testing import Conformance


class TestTimm(Conformance):
    plugin = "timm"
    encoders = (
        "densenet121",
        "dpn68",
        "inceptionv4",
        "mobilenet_v2",
        "mobileone_s1",
        "se_resnet50",
        "timm-skresnet18",
        "vgg11_bn",
        "xception",
        "timm/convnext_atto",
        "timm/efficientvit_b0",
        "timm/resnet10t",
        "timm/swin_tiny_patch4_window7_224",
        "timm/tinynet_e",
        "timm/vit_tiny_patch16_224",
        "tu-vgg11",
    )
