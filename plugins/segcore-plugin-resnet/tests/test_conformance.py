from segcore.testing import Conformance


class TestResNet(Conformance):
    plugin = "resnet"
