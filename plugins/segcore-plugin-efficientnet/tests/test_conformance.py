from segcore.testing import Conformance


class TestEfficientNet(Conformance):
    plugin = "efficientnet"
