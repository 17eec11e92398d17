from segcore.testing import Conformance


class TestExport(Conformance):
    plugin = "export"
