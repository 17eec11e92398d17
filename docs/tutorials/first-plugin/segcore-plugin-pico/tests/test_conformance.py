from segcore.testing import Conformance


class TestPico(Conformance):
    plugin = "pico"
