from segcore.testing import Conformance


class TestDemo(Conformance):
    plugin = "demo"
