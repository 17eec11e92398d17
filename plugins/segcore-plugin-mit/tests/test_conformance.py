from segcore.testing import Conformance


class TestMixTransformer(Conformance):
    plugin = "mit"
