from segcore.testing import Conformance


class TestPredict(Conformance):
    plugin = "predict"
