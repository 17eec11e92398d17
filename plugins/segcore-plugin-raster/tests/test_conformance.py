from segcore.testing import Conformance


class TestRaster(Conformance):
    plugin = "raster"
