from segcore.testing import Conformance


class TestRay(Conformance):
    plugin = "ray"
