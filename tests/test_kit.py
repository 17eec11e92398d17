"""The conformance kit: each check catches the plugin, encoder or decoder that was made to break its promise."""

import pytest

from segcore.testing import checks, run_checks
from segcore.testing.plugin_checks import loaded_safely
from tests import bad_decoders, bad_encoders
from tests.bad_plugins import PLUGINS, RECORDS, install, source_of
from tests.fake_plugins import decoder, encoder, fake_site, listing, make_global

CHECKS = {check.__name__: check for group in checks.GROUPS.values() for check in group}
NETWORKS = [*bad_encoders.SPECIMENS, *bad_decoders.SPECIMENS]
GOOD = listing(
    encoder("good-s", "output_strides=(8, 16, 32), aliases=('good-small',)"),
    encoder("good-m", "options={'width': 16}").replace("(3, 8, 16, 24, 32, 40)", "(3, 16, 24, 32, 40, 48)"),
    decoder("good-d", "GoodDecoder"),
    before="import os, tempfile\nwith tempfile.TemporaryFile() as file:\n    file.write(b'x')",
)


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "work").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))  # the site must not lie in what probes take for it
        monkeypatch.chdir(tmp_path / "work")
        make_global(made, monkeypatch)
        yield made


def test_no_check_is_without_a_specimen():
    specimens = {case.check for case in (*PLUGINS, *NETWORKS)} | {check for check, _, _ in RECORDS}
    assert specimens == set(CHECKS)
    assert len(CHECKS) == sum(len(group) for group in checks.GROUPS.values())


@pytest.mark.parametrize("bad", PLUGINS, ids=lambda bad: f"{bad.check}-{bad.says[:20]}")
def test_a_bad_plugin_fails_its_check(bad, site):
    install(site, "bad", source_of(bad), **bad.installed)
    if bad.network:
        (site.folder / "fake_net.py").write_text(bad.network)
    if bad.rival:
        install(site, "bad", listing("other"), distribution=bad.rival, module="segcore_plugin_rival")
    namespace = "segcore-plugin-bad" if bad.rival else "bad"
    check = CHECKS[bad.check]
    subjects = loaded_safely(namespace).specs() if check in checks.RECORD_CHECKS else [namespace]
    with pytest.raises(AssertionError, match=bad.says):
        for subject in subjects:
            check(subject)


@pytest.mark.parametrize(("check", "says", "record"), RECORDS, ids=[f"{row[0]}-{row[1][:20]}" for row in RECORDS])
def test_a_bad_record_fails_its_check(check, says, record):
    with pytest.raises(Exception, match=says):
        CHECKS[check](record)


@pytest.mark.parametrize("bad", NETWORKS, ids=lambda bad: f"{bad.check}-{bad.factory.__name__}")
def test_a_bad_network_fails_its_check(bad):
    with pytest.raises(Exception, match=bad.says):
        CHECKS[bad.check](bad.record)


def test_a_good_plugin_passes_every_check(site):
    install(site, "good", GOOD)
    results = list(run_checks("good"))
    assert [result for result in results if result.problem] == []
    assert {result.check for result in results} == set(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad", [bad for bad in NETWORKS if "*" not in bad.also], ids=lambda bad: f"{bad.check}-{bad.factory.__name__}"
)
def test_a_bad_network_fails_no_other_check(bad):
    lights = (*checks.LIGHT_ENCODER_CHECKS, *checks.HEAVY_ENCODER_CHECKS)
    group = lights if bad in bad_encoders.SPECIMENS else checks.DECODER_CHECKS
    wanted, failed = {bad.check, *bad.also}, set()
    for check in group:
        if "compiles" in check.__name__ and check.__name__ not in wanted:
            continue  # a second each
        try:
            check(bad.record)
        except Exception:
            failed.add(check.__name__)
    assert failed == wanted
