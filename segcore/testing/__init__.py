"""The conformance kit, and tiny parts for tests of encoders and decoders.

A plugin's whole compatibility test is::

    from segcore.testing import Conformance

    class TestMine(Conformance):
        plugin = "mine"
"""

from segcore.testing.kit import Case, Conformance, cases
from segcore.testing.tiny import TinyDecoder, TinyEncoder, zoo

__all__ = ["Case", "Conformance", "TinyDecoder", "TinyEncoder", "cases", "zoo"]
