from segcore.testing import Conformance


class TestSmp(Conformance):
    plugin = "smp"
