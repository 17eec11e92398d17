import pytest

from segcore.testing import Conformance


class TestEfficientNet(Conformance):
    plugin = "efficientnet"
    encoders = ("efficientnet-b0", "timm-efficientnet-b0", "timm-tf_efficientnet_lite0")


@pytest.mark.slow
class TestEveryEfficientNet(Conformance):
    plugin = "efficientnet"
