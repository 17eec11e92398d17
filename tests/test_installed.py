"""Metadata to plugins: rows 5 to 11 and 23 to 27 of the table of failures, and stranger metadata."""

import itertools
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from segcore import installed
from segcore.errors import PluginWarning
from segcore.installed import Plugin, incompatibility, path_fingerprint, scan
from tests.fake_plugins import fake_site, listing, recorded


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        yield made


def found(site):
    return {plugin.namespace: plugin for plugin in scan(site.path)}


def test_scan_imports_nothing_and_reads_all(site):
    site.install("tiny", "raise SystemExit", version="2.1", requires=["segcore>=0.1", "torch"])
    plugin = found(site)["tiny"]
    assert (plugin.module, plugin.distribution, plugin.version) == ("segcore_plugin_tiny", "segcore-plugin-tiny", "2.1")
    assert (plugin.status, plugin.reason, plugin.notes, plugin.load_seconds) == ("installed", None, [], None)
    assert plugin.requirements == ("segcore>=0.1", "torch")
    assert plugin.title == "segcore-plugin-tiny 2.1"
    assert (plugin.index("encoder"), plugin.specs()) == ({}, [])
    assert "segcore_plugin_tiny" not in sys.modules
    assert list(found(site)) == ["aaa", "tiny", "zzz"]


def test_scan_of_sys_path_by_default(site):
    assert {"aaa", "zzz"} <= {plugin.namespace for plugin in scan()}


@pytest.mark.parametrize(
    ("entry_points", "namespace", "part"),
    [
        ("[segcore.v1]\ntiny = segcore_plugin_absent\n", "tiny", "ModuleNotFoundError"),
        ("[segcore.v1]\ntiny =\n", "tiny", "'tiny' = '' is malformed"),
        ("[segcore.v1]\ntiny\n", "tiny", "'tiny' = '' is malformed"),
        ("[segcore.v1]\n= segcore_plugin_tiny\n", "segcore-plugin-tiny", "'' = 'segcore_plugin_tiny' is malformed"),
        ("[segcore.v1]\n=\n", "segcore-plugin-tiny", "'' = '' is malformed"),
        ("[segcore.v1]\nTiny = segcore_plugin_tiny\n", "Tiny", "a lower-case name and a module are needed"),
        ("[segcore.v1]\ntiny = segcore_plugin_tiny:hooks\n", "tiny", "is malformed"),
        ("[segcore.v1]\ntiny = segcore-plugin-tiny\n", "tiny", "is malformed"),
        ("[segcore.v1]\ntiny = .relative\n", "tiny", "is malformed"),
        ("[segcore.v1]\nti/ny = segcore_plugin_tiny\n", "ti/ny", "is malformed"),
        ("[segcore.v1]\nti|ny = segcore_plugin_tiny\n", "ti|ny", "is malformed"),
        ("[segcore.v1]\ntiny = a|b\n", "tiny", "is malformed"),
        ("[segcore.v1]\ntiny = os; import this\n", "tiny", "is malformed"),
    ],
)
def test_row_05_dangling_malformed_or_empty_entry_point(site, entry_points, namespace, part):
    site.install("tiny", listing("tiny-s"), module="segcore_plugin_tiny", entry_points=entry_points)
    site.check(namespace, "broken", part)


@pytest.mark.parametrize(
    "entry_points",
    [
        b"[segcore.v1]\nbad\xff = x\n",
        b"\x00\x01\x02segcore.v1\xff\xfe",
        b"[console_scripts]\nno equals sign segcore.v1\n",
        b"= = =\n[segcore.v1",
        "[segcore.v1]\ntiny = x\n".encode("utf-16"),
        b"",
    ],
)
@pytest.mark.parametrize("metadata", [None, False, b"\xff\xfe\x00", b"Name\n\n: :"])
def test_row_06_metadata_of_an_unrelated_distribution(site, entry_points, metadata):
    site.install("other", None, distribution="other", entry_points=entry_points, metadata=metadata)
    site.install("tiny", listing("tiny-s"))
    assert list(found(site)) == ["aaa", "tiny", "zzz"]
    site.check("tiny", "ok")


def test_row_06_entry_points_that_are_a_folder(site):
    site.install("other", None, distribution="other", entry_points=False)
    (site.folder / "other-1.0.dist-info" / "entry_points.txt").mkdir()
    assert site.look() == []
    site.check_neighbours()


@pytest.mark.parametrize("metadata", [False, b"\xff\xfe\x00", "Metadata-Version: 2.1\n"])
@pytest.mark.parametrize("suffix", ["dist-info", "egg-info"])
def test_row_07_without_metadata_the_folder_tells_the_name(site, metadata, suffix):
    site.install("tiny", listing("tiny-s"), version="3.2", metadata=metadata, suffix=suffix)
    plugin = site.check("tiny", "ok")
    assert (plugin.distribution, plugin.version) == ("segcore-plugin-tiny", "3.2")


def test_row_08_same_distribution_same_reference(site, tmp_path):
    site.install("tiny", listing("tiny-s"))
    site.install("tiny", None, version="0.9", distribution="Segcore_Plugin.tiny", folder=tmp_path / "second")
    site.path.append(str(tmp_path / "second"))
    plugin = site.check("tiny", "ok")
    assert plugin.version == "1.0"
    assert plugin.notes == ["segcore-plugin-tiny 0.9 lies on the path again"]
    assert site.encoders.names("tiny*") == ["tiny-s"]


@pytest.mark.parametrize("first", [0, 1])
def test_row_09_same_distribution_other_reference(site, tmp_path, first):
    site.install("tiny", listing("tiny-s"))
    site.install("tiny", listing("tiny-old"), version="0.9", module="fake_old", folder=tmp_path / "second")
    site.path = [str(tmp_path / "second"), *site.path] if first else [*site.path, str(tmp_path / "second")]
    sys.path.insert(0, str(tmp_path / "second"))
    plugin = site.check("tiny", "ok")
    assert plugin.version == ("0.9" if first else "1.0")
    assert "with other entry points and is shadowed" in plugin.notes[0]
    assert site.encoders.names("tiny*") == (["tiny-old"] if first else ["tiny-s"])


def test_leftover_of_an_upgrade_in_one_folder_loses_whatever_the_listing_says(site, monkeypatch):
    for version in ("0.9", "0.10", "0.10.dev1", "garbage"):
        site.install("tiny", listing("tiny-s"), version=version)
    everything = list(installed.importlib.metadata.distributions(path=site.path))
    for order in (everything, everything[::-1], sorted(everything, key=str), everything[3:] + everything[:3]):
        monkeypatch.setattr(installed.importlib.metadata, "distributions", lambda path, order=order: iter(order))
        plugin = found(site)["tiny"]
        assert plugin.version == "0.10"
        assert len(plugin.notes) == 3


@pytest.mark.parametrize(
    "text", [False, "[console_scripts]\nx = y:z\n", "# segcore.v1 is what we had\n", "[segcore.v1]\n"]
)
def test_row_10_stale_egg_info_before_the_real_one(site, tmp_path, text):
    site.install("tiny", None, version="0.1", entry_points=text, folder=tmp_path / "stale", suffix="egg-info")
    site.install("tiny", listing("tiny-s"))
    site.path.insert(0, str(tmp_path / "stale"))
    plugin = site.check("tiny", "ok")
    assert (plugin.version, plugin.notes) == ("1.0", [])


def test_row_11_two_entry_points_to_one_module(site):
    site.install(
        "tiny", listing("tiny-s"), entry_points="[segcore.v1]\ntwo = segcore_plugin_tiny\ntiny = segcore_plugin_tiny\n"
    )
    site.check("two", "broken", "its module 'segcore_plugin_tiny' belongs to plugin 'tiny'")
    assert site.plugin("tiny").status == "ok"
    assert site.encoders["tiny-s"].provenance.namespace == "tiny"


def test_row_11_a_module_belongs_to_the_package_that_bears_its_name(site):
    site.install("tiny", listing("tiny-s"))
    site.install("able", None, module="segcore_plugin_tiny")
    site.check("able", "broken", "belongs to plugin 'tiny' of segcore-plugin-tiny")
    assert site.plugin("tiny").status == "ok"


def test_malformed_entry_point_takes_no_module_from_another(site):
    site.install(
        "tiny", listing("tiny-s"), entry_points="[segcore.v1]\nBad = segcore_plugin_tiny\ntiny = segcore_plugin_tiny\n"
    )
    site.check("Bad", "broken", "is malformed")
    assert site.plugin("tiny").status == "ok"


def test_entry_point_written_twice(site):
    site.install(
        "tiny", listing("tiny-s"), entry_points="[segcore.v1]\ntiny = segcore_plugin_tiny\ntiny = fake_other\n"
    )
    plugin = site.check("tiny", "ok")
    assert plugin.notes == ["its entry point 'tiny' is written twice; 'fake_other' is not used"]


@pytest.mark.parametrize(
    "text",
    [
        "[console_scripts]\r\nx = y:z\r\n\r\n[segcore.v1]\r\ntiny = segcore_plugin_tiny\r\n",
        "\ufeff[segcore.v1]\ntiny = segcore_plugin_tiny",
        "# comment\n; another\n[segcore.v1]\n# tiny = fake_other\ntiny=segcore_plugin_tiny [x,y]\n",
        "[ segcore.v1 ]\n  tiny   =   segcore_plugin_tiny[x]  \n\n[segcore.v1x]\nother = fake_other\n",
        "broken line\n[segcore.v1]\ntiny = segcore_plugin_tiny\n[segcore]\na = b\n[unclosed\n",
        "[segcore.v0]\ntiny = fake_old\n[segcore.v1]\ntiny = segcore_plugin_tiny\n[segcore.v2]\ntiny = fake_new\n",
    ],
    ids=["windows", "byte-order mark", "comments and extras", "spaces", "debris", "several interfaces"],
)
def test_entry_points_as_people_and_tools_write_them(site, text):
    site.install("tiny", listing("tiny-s"), entry_points=text)
    site.check("tiny", "ok")
    assert list(found(site)) == ["aaa", "tiny", "zzz"]


def test_metadata_with_windows_line_endings(site):
    metadata = "Metadata-Version: 2.1\r\nName: Segcore_Plugin.Tiny\r\nVersion: 1.5\r\nRequires-Dist: segcore<0.0.1\r\n\r\nText\r\n"
    site.install("tiny", listing("tiny-s"), metadata=metadata)
    plugin = site.check("tiny", "incompatible", "it needs segcore <0.0.1")
    assert plugin.title == "segcore-plugin-tiny 1.5"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("segcore>=99", ">=99"),
        ("segcore[x] <0.0.1", "<0.0.1"),
        ("Segcore (>=99,<100)", "<100,>=99"),
        ("segcore==99.*; python_version>'3'", "==99.*"),
    ],
)
def test_row_23_plugin_needs_another_segcore(site, line, wanted):
    site.install("tiny", "raise AssertionError('imported')", requires=["torch", line])
    plugin = site.check("tiny", "incompatible", f"it needs segcore {wanted}, this is")
    assert plugin.load_seconds is None
    assert "segcore_plugin_tiny" not in sys.modules


@pytest.mark.parametrize("major", [0, 2, 10])
def test_row_24_plugin_speaks_another_interface(site, major):
    site.install(
        "tiny", "raise AssertionError('imported')", entry_points=f"[segcore.v{major}]\ntiny = segcore_plugin_tiny\n"
    )
    site.check("tiny", "incompatible", f"it speaks plugin interface {major}, this segcore speaks 1")
    assert "segcore_plugin_tiny" not in sys.modules


@pytest.mark.parametrize(
    "line",
    [
        "segcore>=99; python_version<'3'",
        "segcore>=99; extra == 'new'",
        "segcore-plugin-x>=99",
        "segcore_plugin_x>=99",
        "segcore.x>=99",
        "segcorex>=99",
        "segcore",
        "segcore @ https://example.org/segcore.whl",
        "segcore >= == 99",
        "segcore>=99; nonsense == 'x'",
        "segcore>=99; extra ~= 'x'",
        "segcore>=0.0.1",
        "",
    ],
)
def test_row_25_requirement_that_is_not_on_this_segcore(site, line):
    site.install("tiny", listing("tiny-s"), requires=[line])
    site.check("tiny", "ok")


def test_development_versions_of_segcore_satisfy_a_range(monkeypatch):
    monkeypatch.setattr("segcore.__version__", "0.5.dev3")
    plugin = Plugin("tiny", "m", "d", "1", requirements=("segcore>=0.1",))
    assert incompatibility(plugin) is None
    plugin.requirements = ("segcore>=0.6",)
    assert incompatibility(plugin) == "it needs segcore >=0.6, this is 0.5.dev3"


@pytest.mark.parametrize("words", ["-tiny", "aaa,zzz", " - tiny ,", "-segcore-plugin-tiny", "-,-tiny"])
@pytest.mark.parametrize("source", ["raise AssertionError('imported')", listing("tiny-s"), "syntax error"])
def test_row_26_blocked_plugin_is_not_imported_and_no_warning(site, monkeypatch, words, source):
    monkeypatch.setenv("SEGCORE_PLUGINS", words)
    site.install("tiny", source)
    assert site.look() == []
    plugin = site.plugin("tiny")
    assert (plugin.status, plugin.reason) == ("disabled", "SEGCORE_PLUGINS leaves it out")
    assert "segcore_plugin_tiny" not in sys.modules
    with pytest.raises(LookupError, match=r"segcore-plugin-tiny 1\.0 \(disabled: SEGCORE_PLUGINS leaves it out\)"):
        site.encoders.resolve("tiny-s")
    with pytest.raises(LookupError, match="disabled: SEGCORE_PLUGINS"):
        site.encoders.resolve("tiny/tiny-s")
    site.check_neighbours()


def test_row_26_blocked_although_its_entry_point_is_malformed(site, monkeypatch):
    monkeypatch.setenv("SEGCORE_PLUGINS", "-tiny")
    site.install("tiny", entry_points="[segcore.v1]\ntiny\n")
    assert site.look() == []
    assert site.plugin("tiny").status == "disabled"


def test_row_26_blocked_by_the_claimed_name_in_a_shared_namespace(site, monkeypatch):
    monkeypatch.setenv("SEGCORE_PLUGINS", "-tiny")
    for who in ("one", "two"):
        site.install("tiny", "raise AssertionError", distribution=who, module=f"fake_{who}")
    assert site.look() == []
    assert {site.plugin(who).status for who in ("one", "two")} == {"disabled"}


@pytest.mark.parametrize("words", ["-absent", "absent,aaa,zzz", "-zzzz"])
def test_row_27_environment_names_nothing_installed(site, monkeypatch, words):
    monkeypatch.setenv("SEGCORE_PLUGINS", words)
    word = words.strip("-").partition(",")[0]
    messages = site.look()
    assert messages == [f"SEGCORE_PLUGINS names {word!r}, but no such plugin is installed."]
    site.check_neighbours()
    assert site.look() == []


def test_row_27_as_an_error_is_raised_once(site, monkeypatch):
    monkeypatch.setenv("SEGCORE_PLUGINS", "-absent")
    with pytest.raises(PluginWarning, match="absent"):
        site.encoders.names()
    assert site.look() == []
    site.check_neighbours()


@pytest.mark.parametrize("words", ["", ",", " , ", "-", "-,"])
def test_empty_environment_means_all(site, monkeypatch, words):
    monkeypatch.setenv("SEGCORE_PLUGINS", words)
    assert site.look() == []
    site.check_neighbours()


BOUNDS = ("0", "0.1", "0.1.0", "0.2", "0.10", "1", "1.0.0", "2.0rc1", "1.*")
VERSIONS = ("0.1", "0.1.0", "0.1.5", "0.2", "0.10.0", "1.0", "2.0rc1", "0.5.dev3", "1!0.1")


@pytest.mark.parametrize("version", VERSIONS)
def test_requirements_that_are_judged_without_packaging_are_judged_as_by_it(version):
    judged = 0
    for low, high in itertools.product(BOUNDS, BOUNDS):
        forms = (
            "segcore>={},<{}",
            "Segcore < {1}, >= {0}",
            "segcore>={}",
            "segcore<{1}",
            "segcore>{}",
            "segcore[a]>={}",
        )
        for form in (*forms, "segcore (>={},<{})", "segcore>={}; extra == 'a'", "segcore>={} <{}", "segcore>={},"):
            line = form.format(low, high)
            if installed._plainly_met(line, version):
                judged += 1
                assert Requirement(line).specifier.contains(version, True), line
    assert judged or not version.replace(".", "").isdigit()


def test_allowed_and_denied_at_once(site, monkeypatch):
    site.install("tiny", listing("tiny-s"))
    monkeypatch.setenv("SEGCORE_PLUGINS", "aaa,tiny,-tiny")
    assert {name: plugin.status for name, plugin in found(site).items()} == {
        "aaa": "installed",
        "tiny": "disabled",
        "zzz": "disabled",
    }


def namespaces(site):
    return {(plugin.distribution, plugin.claim): plugin.namespace for plugin in scan(site.path)}


def test_packages_that_share_two_namespaces_keep_both_plugins(site):
    for who in ("one", "two"):
        text = f"[segcore.v1]\nx = fake_{who}_x\ny = fake_{who}_y\n"
        site.install("", listing(f"{who}-x"), distribution=who, module=f"fake_{who}_x", entry_points=text)
        (site.folder / f"fake_{who}_y.py").write_text(listing(f"{who}-y"))
    assert site.look() == []
    assert len(site.catalogue.plugins()) == 6
    assert site.encoders.names("one*") == ["one-x", "one-y"]
    assert site.encoders.resolve("one/one-x") is site.encoders.resolve("one-x")
    assert site.encoders.resolve("one-y/one-y") is site.encoders.resolve("one-y")


def test_namespace_equal_to_the_distribution_of_another(site):
    site.install("able", listing("able-s"), distribution="tiny", module="fake_able")
    site.install("tiny", listing("tiny-s"), distribution="other", module="fake_tiny")
    assert namespaces(site)["tiny", "able"] == "able"
    assert namespaces(site)["other", "tiny"] == "other"
    assert "namespace 'tiny' belongs to tiny; write 'other'" in found(site)["other"].notes
    site.install("able", listing("able-m"), distribution="third", module="fake_third")
    assert namespaces(site)["tiny", "able"] == "tiny"
    assert namespaces(site)["third", "able"] == "third"
    assert site.look() == []
    assert site.encoders.names("*able*") == ["able-m", "able-s"]


@pytest.mark.parametrize("rival", ["[segcore.v1]\ntiny\n", "[segcore.v2]\ntiny = fake_rival\n"])
def test_plugin_that_cannot_be_used_takes_no_namespace(site, rival):
    site.install("tiny", listing("tiny-s"))
    site.install("tiny", distribution="a-rival", module="fake_rival", entry_points=rival)
    assert namespaces(site)["segcore-plugin-tiny", "tiny"] == "tiny"
    assert namespaces(site)["a-rival", "tiny"] == "a-rival"
    assert len(site.look()) == 1
    assert site.encoders.resolve("tiny/tiny-s").name == "tiny-s"


def test_official_namespace_belongs_to_its_package_even_where_that_is_missing(site):
    site.install("resnet", listing("resnet34"), distribution="a-rival", module="fake_rival")
    assert namespaces(site)["a-rival", "resnet"] == "a-rival"
    site.install("resnet", listing("resnet34"))
    assert namespaces(site)["a-rival", "resnet"] == "a-rival"
    assert namespaces(site)["segcore-plugin-resnet", "resnet"] == "resnet"


def test_namespaces_do_not_depend_on_the_order_of_the_path(tmp_path, monkeypatch):
    installations = [
        {"namespace": "x", "distribution": "one"},
        {"namespace": "x", "distribution": "two"},
        {"namespace": "one", "distribution": "three"},
        {"namespace": "timm", "distribution": "four"},
        {"namespace": "y", "distribution": "five"},
    ]
    results = set()
    for order in itertools.permutations(range(5)):
        plugins = [Path(f"{tmp_path}/{index}") for index in order]
        with fake_site(tmp_path / "site", monkeypatch) as site:
            for index, what in enumerate(installations):
                if not (tmp_path / str(index)).exists():
                    site.install(**what, source="", module=f"fake_{index}", folder=tmp_path / str(index))
        results.add(str([(p.namespace, p.distribution, p.status, p.notes) for p in scan([*map(str, plugins)])]))
    assert len(results) == 1
    assert "('one', 'one'" in results.pop()


def test_strange_entries_of_sys_path(site, monkeypatch, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(site.folder, target_is_directory=True)
    strange = [str(site.folder), str(site.folder), str(link), "", "/absent", "nul\0byte", b"bytes", None, Path("x"), 3]
    assert [(plugin.namespace, plugin.notes) for plugin in scan(strange)] == [("aaa", []), ("zzz", [])]
    monkeypatch.setattr(sys, "path", strange)
    assert path_fingerprint() == path_fingerprint()
    site.touch(site.folder)
    first = path_fingerprint()
    site.touch(site.folder)
    assert first != path_fingerprint()


def test_finder_without_paths(monkeypatch):
    class Bare(installed.importlib.metadata.Distribution):
        def read_text(self, filename):
            return {"entry_points.txt": "[segcore.v1]\ntiny = fake_tiny\n"}.get(filename)

        def locate_file(self, path):
            raise NotImplementedError

    monkeypatch.setattr(installed.importlib.metadata, "distributions", lambda path: iter([Bare(), Bare()]))
    with recorded():
        plugins = scan([])
    assert [(plugin.namespace, plugin.distribution, plugin.version) for plugin in plugins] == [("tiny", "unknown", "0")]
