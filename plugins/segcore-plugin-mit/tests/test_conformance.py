import pytest

from segcore.testing import Conformance


class TestMixTransformer(Conformance):
    plugin = "mit"
    encoders = ("mit_b0", "mit_b2")


@pytest.mark.slow
class TestEveryMixTransformer(Conformance):
    plugin = "mit"
