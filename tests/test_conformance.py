"""How the kit runs its checks: cases, exemptions, the pytest class, and the call."""

import pytest

from segcore import EncoderSpec
from segcore.testing import Case, cases, checks, run_checks
from tests.bad_plugins import install
from tests.fake_plugins import decoder, encoder, fake_site, listing, make_global, run_python


def small_numbers_only(spec):
    """A check for these tests."""
    if len(spec.name) > 4:
        raise AssertionError(f"{spec.name} is long")


def needs_torch_of_the_future(spec):
    """A check that raises something else than AssertionError."""
    raise RuntimeError("no\nsuch thing")


def record(name):
    return EncoderSpec(name, factory="segcore.testing:TinyEncoder")


ONE = Case(small_numbers_only, "large", (record("large"),))
MANY = Case(small_numbers_only, "tiny", tuple(map(record, ("a", "long-1", "b", "long-2"))))


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        make_global(made, monkeypatch)
        yield made


def test_a_case_has_a_name():
    assert ONE.id == "small_numbers_only-large"
    assert MANY.keys >= {"small_numbers_only", "small_numbers_only-tiny", "small_numbers_only-long-1"}


def test_a_case_of_one_raises_what_the_check_raises():
    with pytest.raises(AssertionError, match="^large is long"):
        ONE.run()
    with pytest.raises(RuntimeError, match="such thing"):
        Case(needs_torch_of_the_future, "a", (record("a"),)).run()
    Case(small_numbers_only, "a", (record("a"),)).run()


def test_a_case_of_many_names_those_that_fail():
    with pytest.raises(AssertionError) as caught:
        MANY.run()
    assert str(caught.value) == "2 of 4 records: long-1: long-1 is long; long-2: long-2 is long"
    with pytest.raises(AssertionError, match=r"^4 of 4 records: a: RuntimeError: no such thing; long-1: "):
        Case(needs_torch_of_the_future, "tiny", MANY.subjects).run()


def test_a_case_of_very_many_names_the_first():
    case = Case(small_numbers_only, "tiny", tuple(record(f"long-{index}") for index in range(1000)))
    with pytest.raises(AssertionError, match=r"^1000 of 1000 records: long-0: .*long-4 is long; and 995 more$"):
        case.run()


@pytest.mark.parametrize("key", ["small_numbers_only", "small_numbers_only-large"])
def test_an_exempted_check_may_fail(key):
    ONE.run({key: "because", "other": "not of this case"})


@pytest.mark.parametrize("key", ["small_numbers_only", "small_numbers_only-a"])
def test_an_exempted_check_must_fail(key):
    with pytest.raises(AssertionError, match=f"the exemption '{key}' is no longer needed: remove it"):
        Case(small_numbers_only, "a", (record("a"),)).run({key: "because"})


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_an_exemption_needs_a_reason(reason):
    with pytest.raises(AssertionError, match="the exemption 'small_numbers_only' needs a reason"):
        ONE.run({"small_numbers_only": reason})


def test_records_are_exempted_together_or_one_by_one():
    MANY.run({"small_numbers_only": "because"})
    MANY.run({"small_numbers_only-long-1": "because", "small_numbers_only-long-2": "because"})
    with pytest.raises(AssertionError, match=r"^1 of 4 records: long-2"):
        MANY.run({"small_numbers_only-long-1": "because"})
    with pytest.raises(AssertionError, match="'small_numbers_only-a' is no longer needed"):
        MANY.run({"small_numbers_only": "because", "small_numbers_only-a": "because"})


def test_cases_follow_what_is_registered(site):
    one = encoder("small", "parameters=1")
    install(site, "tiny", listing(one, encoder("large", "parameters=2"), encoder("other"), decoder("dec")))
    found = [(case.check, case.about) for case in cases("tiny", ["small", "large"])]
    assert len(found) == len(set(found))
    for check in (*checks.PLUGIN_CHECKS, *checks.BUILDING_CHECKS, *checks.RECORD_CHECKS):
        assert found.count((check, "tiny")) == 1
    assert [about for check, about in found if check in checks.LIGHT_ENCODER_CHECKS[:1]] == ["small", "large"]
    assert [about for check, about in found if check in checks.HEAVY_ENCODER_CHECKS[:1]] == ["small"]
    assert [about for check, about in found if check in checks.DECODER_CHECKS[:1]] == ["dec"]


def test_thousands_of_records_are_few_cases(site):
    install(
        site,
        "tiny",
        listing("first", after="    yield from (" + encoder("x").replace("'x'", "f'x{i}'") + " for i in range(3000))"),
    )
    found = list(cases("tiny", ["x7"]))
    assert len(found) < 60
    assert len(next(case for case in found if case.check.__name__ == "record_is_plain").subjects) == 3001


@pytest.mark.parametrize("before", ["import os\nos._exit(3)", "1 / 0", "import os\nos.abort()"])
def test_a_plugin_that_cannot_be_loaded_gets_the_checks_of_plugins(site, before):
    install(site, "tiny", listing("a", before=before))
    found = list(cases("tiny"))
    assert [case.check for case in found] == list(checks.PLUGIN_CHECKS)
    with pytest.raises(AssertionError, match="ended the process|crashed with SIGABRT|broken: importing"):
        found[0].run()


def test_a_plugin_that_is_not_installed(site):
    results = list(run_checks("nothing"))
    assert {result.problem for result in results if result.check != "loads_without_warnings"} <= {
        "no plugin 'nothing' is installed",
        None,
    }
    assert results[0].problem == "absent: no plugin 'nothing' is installed"


def test_a_deprecated_name_is_checked_like_others(site):
    install(site, "tiny", listing(encoder("old", "deprecated='use new'")))
    for case in cases("tiny"):
        if case.check in (*checks.RECORD_CHECKS, *checks.LIGHT_ENCODER_CHECKS):
            case.run()


def test_run_checks_tells_what_came_of_each(site):
    install(site, "tiny", listing(before="print('hello')"), licence=None)
    results = list(run_checks("tiny", exempt={"listing_is_silent": "it greets", "nonsense": "?"}))
    wrong = {result.check: result.problem for result in results if result.problem}
    assert wrong.keys() == {"package_states_its_licence", "exemptions"}
    assert wrong["exemptions"] == "the exemption 'nonsense' names no check of this plugin: remove it"
    assert {result.about for result in results} == {"tiny", "nonsense"}


def run_class(site, body):
    """Run a conformance test in a fresh pytest over the site; return exit code and output."""
    test = site.folder / "test_it.py"
    test.write_text(
        f"from segcore.testing import Conformance\n\nclass TestIt(Conformance):\n    plugin = 'tiny'\n{body}"
    )
    code = f"import sys, pytest\nsys.exit(pytest.main(['-q', '-rA', '-p', 'no:cacheprovider', '-W', 'error', {str(test)!r}]))"
    done = run_python(code, folder=site.folder, flags=())
    return done.returncode, done.stdout + done.stderr


def test_the_class_runs_every_check(site):
    install(site, "tiny", listing(before="print('hello')"))
    code, text = run_class(site, "")
    assert code == 1
    for check in checks.PLUGIN_CHECKS:
        outcome = "FAILED" if check.__name__ == "listing_is_silent" else "PASSED"
        assert f"{outcome} test_it.py::TestIt::test_conforms[{check.__name__}-tiny]" in text, text


def test_the_class_holds_exemptions_to_their_word(site):
    install(site, "tiny", listing(before="print('hello')"))
    code, text = run_class(site, "    exempt = {'listing_is_silent': 'it greets'}\n")
    assert code == 0, text
    code, text = run_class(
        site, "    exempt = {'listing_is_silent': 'it greets', 'listing_is_light': 'x', 'is_blue': 'y'}\n"
    )
    assert code == 1
    assert "the exemption 'listing_is_light' is no longer needed: remove it" in text
    assert "these exemptions name no check of this plugin: is_blue" in text
    assert "2 failed" in text
