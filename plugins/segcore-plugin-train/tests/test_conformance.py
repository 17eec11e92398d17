from segcore.testing import Conformance


class TestTrain(Conformance):
    plugin = "train"
