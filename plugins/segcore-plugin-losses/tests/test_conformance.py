from segcore.testing import Conformance


class TestLosses(Conformance):
    plugin = "losses"
