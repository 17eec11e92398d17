"""The conformance kit, and tiny parts for tests of encoders and decoders.

A plugin's whole compatibility test is::

    from segcore.testing import Conformance

    class TestMine(Conformance):
        plugin = "mine"
"""

from segcore.testing.kit import Case, Conformance, Result, cases, run_checks
from segcore.testing.tiny import TinyDecoder, TinyEncoder, zoo

__all__ = ["Case", "Conformance", "Result", "TinyDecoder", "TinyEncoder", "cases", "run_checks", "zoo"]
