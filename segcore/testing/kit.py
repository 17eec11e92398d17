"""The conformance kit: which checks a plugin has to pass, and the pytest class that runs them."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from segcore.discovery import catalogue
from segcore.specs import EncoderSpec
from segcore.testing import checks
from segcore.testing.plugin_checks import smallest_encoders


@dataclass(frozen=True)
class Case:
    """One check of one component.

    Attributes:
        check: the function, one of those in `segcore.testing.checks`.
        subject: the plugin's namespace, or a record.
    """

    check: Callable[[Any], None]
    subject: Any

    @property
    def about(self) -> str:
        """The plugin or the component that is checked."""
        return self.subject if isinstance(self.subject, str) else str(self.subject.name)

    @property
    def id(self) -> str:
        """Check and component, for reports."""
        return f"{self.check.__name__}-{self.about}"

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


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        check: its name.
        about: the plugin or the component.
        problem: what is wrong, None if the promise is kept.
        seconds: that it took.
    """

    check: str
    about: str
    problem: str | None
    seconds: float


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
    if loaded.specs("encoder") or loaded.specs("decoder"):
        yield from (Case(check, plugin) for check in checks.BUILDING_CHECKS)
    chosen: list[EncoderSpec] = []
    for spec in loaded.specs("encoder"):
        yield from (Case(check, spec) for check in checks.RECORD_CHECKS)
        if isinstance(spec, EncoderSpec) and any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in encoders):
            chosen.append(spec)
            yield from (Case(check, spec) for check in checks.LIGHT_ENCODER_CHECKS)
    for spec in smallest_encoders(chosen):
        yield from (Case(check, spec) for check in checks.HEAVY_ENCODER_CHECKS)
    for decoder in loaded.specs("decoder"):
        yield from (Case(check, decoder) for check in (*checks.RECORD_CHECKS, *checks.DECODER_CHECKS))


def run_checks(
    plugin: str, encoders: Sequence[str] = ("*",), exempt: Mapping[str, str] | None = None
) -> Iterator[Result]:
    """Run every check that an installed plugin has to pass, without pytest, and yield what came of each.

    Args:
        plugin: its namespace.
        encoders: patterns of the encoders to build.
        exempt: reasons by check; see `Case.run`.
    """
    found = list(cases(plugin, encoders))
    for case in found:
        started = time.perf_counter()
        problem = None
        try:
            case.run(exempt)
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            problem = kind + " ".join(str(error).split())
        yield Result(case.check.__name__, case.about, problem, time.perf_counter() - started)
    for key in unknown_exemptions(found, exempt or {}):
        yield Result("exemptions", key, f"the exemption {key!r} names no check of this plugin: remove it", 0.0)


def unknown_exemptions(found: Sequence[Case], exempt: Mapping[str, str]) -> list[str]:
    """Return the exemptions that no case has use for."""
    known = {key for case in found for key in (case.id, case.check.__name__)}
    return sorted(exempt.keys() - known)


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
        if "case" in metafunc.fixturenames:
            found = list(cases(self.plugin, self.encoders))
            metafunc.parametrize("case", found, ids=[case.id for case in found])

    def test_conforms(self, case: Case) -> None:
        """Run one check."""
        case.run(self.exempt)

    def test_exemptions_are_known(self) -> None:
        """Every exemption names a check of this plugin."""
        unknown = unknown_exemptions(list(cases(self.plugin, self.encoders)), self.exempt) if self.exempt else []
        assert not unknown, f"these exemptions name no check of this plugin: {', '.join(unknown)}"
