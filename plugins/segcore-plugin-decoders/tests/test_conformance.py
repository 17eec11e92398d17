from segcore.testing import Conformance


class TestDecoders(Conformance):
    plugin = "decoders"
