"""The conformance kit: which checks a plugin has to pass, and what runs them: a pytest class, or a call."""

from __future__ import annotations

import fnmatch
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from segcore.errors import shorten
from segcore.specs import EncoderSpec
from segcore.testing import checks
from segcore.testing.plugin_checks import loaded_safely, smallest_encoders

SHOWN = 5


@dataclass(frozen=True)
class Case:
    """One check of one component, or of all records of a plugin.

    Attributes:
        check: the function, one of those in `segcore.testing.checks`.
        about: the plugin or the component that is checked.
        subjects: what the check is called with, one after the other: a plugin's namespace, or records.
    """

    check: Callable[[Any], None]
    about: str
    subjects: tuple[Any, ...]

    @property
    def id(self) -> str:
        """Check and component, for reports."""
        return f"{self.check.__name__}-{self.about}"

    @property
    def keys(self) -> frozenset[str]:
        """What an exemption from this case can be called."""
        return frozenset({self.check.__name__, self.id, *map(self._key, self.subjects)})

    def run(self, exempt: Mapping[str, str] | None = None) -> None:
        """Run the check.

        Args:
            exempt: reasons by check, or by check and component, ``"compiles_whole-tiny-s"``. An exempted check must
                fail: an exemption that has become needless fails itself.

        Raises:
            AssertionError: the promise is not kept, or an exemption is needless or has no reason.
        """
        reasons = {key: reason for key, reason in (exempt or {}).items() if key in self.keys}
        for key, reason in reasons.items():
            assert isinstance(reason, str), f"the exemption {key!r} needs a reason, got {reason!r}"
            assert reason.strip(), f"the exemption {key!r} needs a reason"
        failures: dict[str, BaseException] = {}
        for subject in self.subjects:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'.+' is deprecated", DeprecationWarning)  # it says so on purpose
                try:
                    self.check(subject)
                except (Exception, SystemExit) as error:
                    failures[self._key(subject)] = error
        used = {key for key in reasons if key in failures or (failures and key in {self.id, self.check.__name__})}
        needless = sorted(reasons.keys() - used)
        assert not needless, f"the exemption {needless[0]!r} is no longer needed: remove it"
        if used & {self.id, self.check.__name__}:
            return
        left = {key: error for key, error in failures.items() if key not in used}
        if len(self.subjects) == 1 and left:
            raise next(iter(left.values()))
        if left:
            prefix = f"{self.check.__name__}-"
            told = [f"{key.removeprefix(prefix)}: {problem_of(error)}" for key, error in left.items()]
            more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
            raise AssertionError(
                f"{len(told)} of {len(self.subjects)} records: {'; '.join(told[:SHOWN])}{more}"
            ) from next(iter(left.values()))

    def _key(self, subject: Any) -> str:
        return f"{self.check.__name__}-{subject if isinstance(subject, str) else subject.name}"


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        check: its name.
        about: the plugin or the component.
        problem: what is wrong and what to do, None if the promise is kept.
        seconds: that it took.
    """

    check: str
    about: str
    problem: str | None
    seconds: float


def problem_of(error: BaseException) -> str:
    """Return in one line what a check found."""
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return (kind + " ".join(str(error).split())) or "failed without a message"


def cases(plugin: str, encoders: Sequence[str] = ("*",)) -> Iterator[Case]:
    """Yield every check that an installed plugin has to pass.

    Checks of records run over all of them. Encoders that match a pattern are built on the meta device, where size
    costs nothing; checks that compute run on the smallest of these for each network, by the declared number of
    parameters. Decoders are built for tiny encoders.

    Args:
        plugin: its namespace.
        encoders: patterns of the encoders to build.
    """
    yield from (Case(check, plugin, (plugin,)) for check in checks.PLUGIN_CHECKS)
    loaded = loaded_safely(plugin)
    if loaded is None:
        return
    specs = tuple(loaded.specs())
    if loaded.specs("encoder") or loaded.specs("decoder"):
        yield from (Case(check, plugin, (plugin,)) for check in checks.BUILDING_CHECKS)
    if specs:
        yield from (Case(check, plugin, specs) for check in checks.RECORD_CHECKS)
    chosen = [
        spec
        for spec in specs
        if isinstance(spec, EncoderSpec) and any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in encoders)
    ]
    for spec in chosen:
        yield from (Case(check, spec.name, (spec,)) for check in checks.LIGHT_ENCODER_CHECKS)
    for spec in smallest_encoders(chosen):
        yield from (Case(check, spec.name, (spec,)) for check in checks.HEAVY_ENCODER_CHECKS)
    for decoder in loaded.specs("decoder"):
        yield from (Case(check, decoder.name, (decoder,)) for check in checks.DECODER_CHECKS)


def run_checks(
    plugin: str, encoders: Sequence[str] = ("*",), exempt: Mapping[str, str] | None = None
) -> Iterator[Result]:
    """Run every check that an installed plugin has to pass, without pytest, and yield what came of each.

    Args:
        plugin: its namespace.
        encoders: patterns of the encoders to build.
        exempt: reasons by check; see `Case.run`.
    """
    yield from run_cases(list(cases(plugin, encoders)), exempt or {})


def run_cases(found: Sequence[Case], exempt: Mapping[str, str]) -> Iterator[Result]:
    """Run cases and yield what came of each."""
    for case in found:
        started = time.perf_counter()
        problem = None
        try:
            case.run(exempt)
        except (Exception, SystemExit) as error:
            problem = problem_of(error)
        yield Result(case.check.__name__, case.about, problem, time.perf_counter() - started)
    for key in unknown_exemptions(found, exempt):
        yield Result("exemptions", key, f"the exemption {key!r} names no check of this plugin: remove it", 0.0)


def unknown_exemptions(found: Sequence[Case], exempt: Mapping[str, str]) -> list[str]:
    """Return the exemptions that no case has use for."""
    return sorted(exempt.keys() - {key for case in found for key in case.keys})


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
        assert not unknown, f"these exemptions name no check of this plugin: {shorten(unknown)}"
