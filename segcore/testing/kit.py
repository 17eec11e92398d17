"""The conformance kit: which checks a plugin has to pass, and the pytest class that runs them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from segcore.discovery import catalogue
from segcore.specs import EncoderSpec
from segcore.testing import checks


@dataclass(frozen=True)
class Case:
    """One check of one component.

    Attributes:
        check: the function of `segcore.testing.checks`.
        subject: the plugin's namespace, or a record.
    """

    check: Callable[[Any], None]
    subject: Any

    @property
    def id(self) -> str:
        """Check and component, for reports."""
        name = self.subject if isinstance(self.subject, str) else self.subject.name
        return f"{self.check.__name__}-{name}"

    def run(self, exempt: Mapping[str, str] | None = None) -> None:
        """Run the check.

        Args:
            exempt: reasons by check, or by check and component (`id`). An exempted check must fail: an exemption
                that has become needless fails itself.

        Raises:
            AssertionError: the promise is not kept, or the exemption is needless or has no reason.
        """
        key = next((key for key in (self.id, self.check.__name__) if key in (exempt or {})), None)
        if key is None:
            self.check(self.subject)
            return
        assert exempt is not None
        assert exempt[key].strip(), f"the exemption {key!r} needs a reason"
        try:
            self.check(self.subject)
        except Exception:
            return
        raise AssertionError(f"the exemption {key!r} is no longer needed: remove it")


def cases(plugin: str, encoders: Sequence[str] = ("*",)) -> Iterator[Case]:
    """Yield every check that an installed plugin has to pass.

    All records are built on the meta device, where size costs nothing; checks that compute run on the smallest
    encoder of each network, by the declared number of parameters.

    Args:
        plugin: its namespace.
        encoders: patterns of the encoders to build; the records of all are checked.
    """
    yield from (Case(check, plugin) for check in checks.PLUGIN_CHECKS)
    loaded = catalogue.load(plugin)
    if loaded is None or not loaded.usable:
        return
    chosen: list[EncoderSpec] = []
    for spec in loaded.specs("encoder"):
        yield from (Case(check, spec) for check in checks.RECORD_CHECKS)
        if isinstance(spec, EncoderSpec) and any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in encoders):
            chosen.append(spec)
            yield from (Case(check, spec) for check in checks.LIGHT_ENCODER_CHECKS)
    smallest: dict[object, EncoderSpec] = {}
    for spec in sorted(chosen, key=lambda spec: spec.parameters or 0):
        smallest.setdefault(spec.factory, spec)
    for spec in smallest.values():
        yield from (Case(check, spec) for check in checks.HEAVY_ENCODER_CHECKS)
    for decoder in loaded.specs("decoder"):
        yield from (Case(check, decoder) for check in (*checks.RECORD_CHECKS, *checks.DECODER_CHECKS))


class Conformance:
    """A plugin's compatibility test: subclass it in a test module and name the plugin.

    Attributes:
        plugin: the plugin's namespace.
        encoders: patterns of the encoders to build, all by default.
        exempt: reasons by check, ``{"compiles_whole": "uses ... until ..."}``; one that is no longer needed fails.
    """

    plugin: ClassVar[str]
    encoders: ClassVar[Sequence[str]] = ("*",)
    exempt: ClassVar[Mapping[str, str]] = {}

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Give pytest one test per check and component."""
        found = list(cases(self.plugin, self.encoders))
        metafunc.parametrize("case", found, ids=[case.id for case in found])

    def test_conforms(self, case: Case) -> None:
        """Run one check."""
        case.run(self.exempt)
