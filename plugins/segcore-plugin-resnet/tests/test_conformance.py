import pytest

from segcore.testing import Conformance


class TestResNet(Conformance):
    plugin = "resnet"
    encoders = ("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2")


@pytest.mark.slow
class TestEveryResNet(Conformance):
    plugin = "resnet"
