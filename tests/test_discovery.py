"""Plugins to records: rows 1 to 4, 12, 15 to 22, 28, 33 to 35, 39, 40, 43, 44, 46 and 49 of the table of failures."""

import itertools
import os
import re
import sys
import threading
from pathlib import Path

import pytest

import segcore
from segcore import PluginError, PluginIncompatibleError, PluginWarning, UnknownNameError, discovery
from segcore.discovery import Catalogue
from segcore.installed import scan
from tests.fake_plugins import HEADER, decoder, encoder, fake_site, listing, make_global, recorded, run_python


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        yield made


def hook(body, signature="segcore_specs()", marker="@hookimpl"):
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{HEADER}\n{marker}\ndef {signature}:\n{lines}\n"


def names(plugin, kind="encoder"):
    return [spec.name for spec in plugin.specs(kind)]


def test_every_row_of_the_table_has_a_test():
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert {int(number) for number in re.findall(r"^def test_row_(\d+)_", text, re.MULTILINE)} == set(range(1, 50))


UNREADABLE = """
class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no message")
    __repr__ = __str__
raise Silent
"""


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("raise ValueError('first\\nsecond')", "importing 'segcore_plugin_tiny' raised ValueError: first second"),
        ("def f(:", "SyntaxError"),
        ("import absent_module", "ModuleNotFoundError: No module named 'absent_module'"),
        ("from segcore import absent", "ImportError: cannot import name 'absent' from 'segcore'"),
        ("f = lambda: f()\nf()", "RecursionError"),
        ("raise MemoryError", "MemoryError"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
        ("raise ExceptionGroup('several', [ValueError('x')])", "several"),
        ("raise ValueError('x' * 9999)", "xxx"),
        (UNREADABLE, "Silent: (its message cannot be read)"),
        ("import warnings\nwarnings.warn('old', FutureWarning)", "FutureWarning: old"),
        ("x = '\\ud800\\x00'", None),
    ],
)
def test_row_01_module_raises_anything(site, source, part):
    site.install("tiny", source)
    if part is None:
        site.check("tiny", "ok")
    else:
        plugin = site.check("tiny", "broken", part)
        assert len(plugin.reason) < 400
        assert plugin.load_seconds is not None


def test_row_01_bytes_that_are_no_source(site):
    site.install("tiny", None)
    (site.folder / "segcore_plugin_tiny.py").write_bytes(b"x = '\xff'\x00")
    site.check("tiny", "broken", "SyntaxError")


@pytest.mark.parametrize(
    "source", ["import sys; sys.exit()", "raise SystemExit(3)", "exit = quit = None; raise SystemExit"]
)
def test_row_02_module_calls_sys_exit(site, source):
    site.install("tiny", source)
    site.check("tiny", "broken", "importing 'segcore_plugin_tiny' raised SystemExit")


def test_row_03_interrupt_during_the_import_propagates_and_can_be_repeated(site):
    site.install("tiny", "import fake_switch\nif fake_switch.on: raise KeyboardInterrupt\n" + listing("tiny-s"))
    (site.folder / "fake_switch.py").write_text("on = True")
    with pytest.raises(KeyboardInterrupt):
        site.encoders.names()
    assert site.plugin("tiny").status == "installed"
    with pytest.raises(KeyboardInterrupt):
        site.encoders.resolve("tiny/tiny-s")
    sys.modules["fake_switch"].on = False
    assert site.encoders.resolve("tiny-s").name == "tiny-s"
    site.check("tiny", "ok")


def test_row_03_interrupt_while_records_are_listed(site):
    site.install(
        "tiny",
        listing(
            "tiny-s",
            "(None)",
            before="on = True",
            after="    if on: raise KeyboardInterrupt",
        ),
    )
    module = __import__("segcore_plugin_tiny")
    with pytest.raises(KeyboardInterrupt):
        site.catalogue.load("tiny")
    assert site.plugin("tiny").status == "installed"
    assert site.catalogue.load("aaa").status == "ok"
    module.on = False
    site.check("tiny", "degraded", "a record must be an EncoderSpec, DecoderSpec or LossSpec, got None")
    assert names(site.plugin("tiny")) == ["tiny-s"]


@pytest.mark.parametrize(
    "source", ["import os\nos._exit(77)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "while True: pass"]
)
def test_row_04_start_without_a_plugin_that_crashes_or_hangs(site, source):
    site.install("tiny", source)
    code = "import segcore\nprint(segcore.list_encoders(), segcore.list_plugins()[1].status)"
    done = run_python(code, folder=site.folder, SEGCORE_PLUGINS="-tiny")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['aaa-net', 'zzz-net'] disabled\n", "")
    if "_exit" in source:
        assert run_python(code, folder=site.folder).returncode == 77


def test_row_15_one_name_twice(site):
    other = encoder("tiny-s").replace("TinyEncoder", "Other")
    site.install("tiny", listing("tiny-s", other, "tiny-m", decoder("tiny-s")))
    plugin = site.check("tiny", "degraded", "'tiny-s' is listed twice; the first stays")
    assert names(plugin) == ["tiny-s", "tiny-m"]
    assert names(plugin, "decoder") == ["tiny-s"]
    assert site.encoders["tiny-s"].factory == "segcore.testing:TinyEncoder"


def test_row_15_one_name_with_and_without_namespace(site):
    site.install("tiny", listing("tiny-s", "tiny/tiny-s"))
    plugin = site.check("tiny", "degraded", "'tiny/tiny-s' is listed twice")
    assert names(plugin) == ["tiny-s"]
    assert site.encoders.resolve("tiny/tiny-s") is site.encoders.resolve("tiny-s")


@pytest.mark.parametrize(
    "error", ["ValueError('late')", "SystemExit('late')", "AssertionError('late')", "StopIteration"]
)
def test_row_16_generator_raises_midway(site, error):
    site.install("tiny", listing("tiny-s", "tiny-m", after=f"    raise {error}"))
    plugin = site.check("tiny", "degraded", "listing its records raised", error.partition("(")[0])
    assert names(plugin) == ["tiny-s", "tiny-m"]
    assert site.encoders["tiny-m"].name == "tiny-m"


@pytest.mark.parametrize(
    ("record", "part"),
    [
        ("dict(name='x')", "a record must be an EncoderSpec, DecoderSpec or LossSpec, got {'name': 'x'}"),
        ("(None)", "got None"),
        ("EncoderSpec('Tiny', factory='a:b', out_channels=(3,))", "a name is lower-case letters, digits"),
        ("EncoderSpec(3, factory='a:b', out_channels=(3,))", "got 3"),
        ("EncoderSpec('x', factory='a.b', out_channels=(3,))", "factory of 'x' must be 'package.module:attribute', got 'a.b'"),
        ("EncoderSpec('x', factory=print, out_channels=(3,))", "factory of 'x' must be 'package.module:attribute' in a plugin"),
        ("EncoderSpec('x', factory=None, out_channels=(3,))", "factory of 'x' must be"),
        ("EncoderSpec('x', factory='a:b')", "'x' must declare out_channels"),
        ("EncoderSpec('x', factory='a:b', out_channels=[3, 8])", "out_channels of 'x' must be a tuple of positive whole numbers, got [3, 8]"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3, 8.0))", "must be a tuple of positive whole numbers"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3, 8), strides=(1, 2, 4))", "they must be parallel"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3, 8), strides=(2, 1))", "must begin with 1 and never decrease"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), aliases=['y'])", "aliases of 'x' must be a tuple of names, got ['y']"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), aliases=(['y'],))", "got ['y']"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), aliases='y')", "must be a tuple of names, got 'y'"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), options={'f': print})", "options of 'x' must be JSON-able"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), options=[1])", "options of 'x' must be a mapping"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), weights=None)", "weights of 'x' must be a mapping"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), weights={'w': {}})", "weights 'w' of 'x': a tag and a Weights are expected, got {}"),
        ("EncoderSpec('other/x', factory='a:b', out_channels=(3,))", "'other/x' lies in another namespace than 'tiny'"),
        ("EncoderSpec('x', factory='a:b', out_channels=(3,), aliases=('aaa/x',))", "'aaa/x' lies in another namespace than 'tiny'"),
        ("DecoderSpec('x', factory='a:b', title='unet')", "title of 'x' must be a class name such as 'Unet', got 'unet'"),
        ("DecoderSpec('x', factory='a:b', title=3)", "title of 'x'"),
        ("type('Evil', (), {'__repr__': lambda self: 1 / 0})()", "got a Evil"),
    ],
)  # fmt: skip
def test_row_17_malformed_record(site, record, part):
    site.install("tiny", listing("tiny-s", record, "tiny-m"))
    plugin = site.check("tiny", "degraded", part)
    assert names(plugin) == ["tiny-s", "tiny-m"]


@pytest.mark.parametrize("what", ["'abc'", "EncoderSpec('x', factory='a:b', out_channels=(3,))", "3", "b'ab'", "print"])
def test_row_17_hook_returns_something_else(site, what):
    site.install("tiny", hook(f"return {what}"))
    site.check(
        "tiny", "degraded", "a record must be" if what.startswith("b") else "listing its records raised TypeError"
    )


def test_row_17_several_problems_are_counted(site):
    site.install("tiny", listing("(1)", "tiny-s", "(2)", "(3)"))
    site.check("tiny", "degraded", "got 1 (and 2 more)")


SHA = "sha256='" + "a" * 64 + "'"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("sha256='123'", "sha256 must be 64 hexadecimal digits"),
        (f"{SHA}, license=''", "weights must state their licence and their source"),
        (f"{SHA}, license=None", "weights must state their licence and their source"),
        (f"{SHA}, source=' '", "weights must state their licence and their source"),
        (
            f"{SHA}, url='https://example.org/x.pth'",
            "weights must be a .safetensors file, got 'https://example.org/x.pth'",
        ),
        (f"{SHA}, url=None", "weights must be a .safetensors file, got None"),
        ("", "weights need a sha256"),
        (f"revision='{'b' * 40}'", "weights need a sha256, or an hf:// address"),
        ("url='hf://a/b/model.safetensors', revision='main'", "revision must be 40 hexadecimal digits"),
        (f"{SHA}, mean=0.5", "mean and std must be tuples"),
        (f"{SHA}, std=(0.0, 1.0, 1.0)", "mean and std must be tuples"),
        (f"{SHA}, input_range=(1, 0)", "input_range must be a tuple"),
        (f"{SHA}, input_space='GRAY'", "input_space must be 'RGB' or 'BGR', got 'GRAY'"),
    ],
)
def test_row_18_weights_that_are_refused(site, arguments, part):
    plain = "url='https://example.org/x.safetensors', license='MIT', source='me', mean=(0.5,) * 3, std=(1.0,) * 3"
    record = encoder("tiny-m", f"weights={{'w': Weights(**dict(dict({plain}), {arguments}))}}")
    site.install("tiny", listing("tiny-s", record))
    plugin = site.check("tiny", "degraded", "weights 'w' of 'tiny-m': ", part)
    assert names(plugin) == ["tiny-s"]


@pytest.mark.parametrize("arguments", [SHA, f"url='hf://a/b/model.safetensors', revision='{'b' * 40}'"])
def test_weights_that_are_pinned(site, arguments):
    plain = "url='https://example.org/x.safetensors', license='MIT', source='me', mean=(0.5,) * 3, std=(1.0,) * 3"
    site.install("tiny", listing(encoder("tiny-m", f"weights={{'w': Weights(**dict(dict({plain}), {arguments}))}}")))
    site.check("tiny", "ok")


@pytest.mark.parametrize("value", ["None", "[]", "()", "iter(())"])
def test_row_19_hook_returns_nothing(site, value):
    site.install("tiny", hook(f"return {value}"))
    assert site.check("tiny", "ok").specs() == []


def test_module_without_hooks(site):
    site.install("tiny", "x = 1")
    assert site.check("tiny", "ok").specs() == []


def test_row_20_hook_with_an_unknown_argument(site):
    source = listing("tiny-s") + hook("return None", "segcore_find(kind, nme)")
    site.install("tiny", source)
    plugin = site.check("tiny", "broken", "a hook does not fit", "segcore_find", "nme")
    assert plugin.specs() == []
    assert site.catalogue.implementations("segcore_specs", only=plugin) == []
    assert {impl.plugin_name for impl in site.catalogue._manager.hook.segcore_specs.get_hookimpls()} == {"aaa", "zzz"}
    assert not site.catalogue._manager.has_plugin("tiny")


def test_row_21_hook_that_this_host_does_not_know(site):
    site.install("tiny", listing("tiny-s") + hook("return None", "segcore_future(x)"))
    plugin = site.check("tiny", "incompatible", "this segcore knows no hook 'segcore_future'")
    assert plugin.specs() == []
    assert not site.catalogue._manager.has_plugin("tiny")


def test_row_21_unknown_hook_that_is_optional(site):
    site.install("tiny", listing("tiny-s") + hook("return None", "segcore_future(x)", "@hookimpl(optionalhook=True)"))
    site.check("tiny", "ok")
    assert site.encoders["tiny-s"].name == "tiny-s"


@pytest.mark.parametrize("option", ["wrapper", "hookwrapper"])
@pytest.mark.parametrize("name", ["segcore_specs()", "segcore_find(kind, name)", "segcore_model_created(model)"])
def test_row_22_hook_wrapper(site, option, name):
    site.install("tiny", hook("return (yield)", name, f"@hookimpl({option}=True)"))
    plugin = site.check("tiny", "broken", f"{name.partition('(')[0]} is a hook wrapper; wrappers are refused")
    assert not site.catalogue._manager.has_plugin(plugin.namespace)


def test_hook_without_its_marker(site):
    site.install("tiny", hook("yield 3", marker=""))
    site.check("tiny", "degraded", "segcore_specs is not marked with @hookimpl, so it is not called")


@pytest.mark.parametrize(
    ("source", "status", "part"),
    [
        ("class Other:\n    @hookimpl\n    def segcore_specs(self):\n        yield {record}\nsys.modules[__name__] = Other()", "ok", ""),
        ("class Other:\n    __slots__ = ()\nsys.modules[__name__] = Other()", "ok", ""),
        ("sys.modules[__name__] = sys.modules['segcore_plugin_aaa']", "broken", "Plugin already registered"),
        ("sys.modules[__name__] = None", "broken", "None"),
        ("del sys.modules[__name__]", "broken", "KeyError"),
        ("class Other:\n    def __dir__(self):\n        raise ValueError('no')\nsys.modules[__name__] = Other()", "broken", "ValueError: no"),
        ("__name__ = 'segcore_plugin_aaa'\n@hookimpl\ndef segcore_specs():\n    yield {record}", "ok", ""),
        ("def __getattr__(name):\n    raise ValueError(name)", "ok", ""),
    ],
)  # fmt: skip
def test_module_that_is_not_what_was_imported(site, source, status, part):
    site.install("tiny", f"import sys\n{HEADER}\n" + source.replace("{record}", encoder("tiny-s")))
    plugin = site.check("tiny", status, part)
    if "{record}" in source:
        assert names(plugin) == ["tiny-s"]
        assert site.encoders["tiny-s"].provenance.namespace == "tiny"


def test_two_plugins_that_list_one_record(site):
    site.install(
        "tiny",
        listing("tiny-s", before="RECORD = " + encoder("shared")).replace(
            "    yield", "    yield RECORD\n    yield", 1
        ),
    )
    site.install(
        "yak", f"{HEADER}\nfrom segcore_plugin_tiny import RECORD\n@hookimpl\ndef segcore_specs():\n    return [RECORD]"
    )
    site.check("tiny", "ok")
    assert site.encoders["tiny/shared"].provenance.distribution == "segcore-plugin-tiny"
    assert site.encoders["yak/shared"].provenance.distribution == "segcore-plugin-yak"


def test_provenance_written_by_the_author_is_replaced(site):
    site.install("tiny", listing(encoder("tiny-s", "provenance=segcore.Provenance('aaa', 'segcore-plugin-aaa', '9')")))
    plugin = site.check("tiny", "ok")
    assert plugin.specs()[0].provenance == segcore.Provenance("tiny", "segcore-plugin-tiny", "1.0")


@pytest.mark.parametrize(
    ("source", "status", "error"),
    [
        ("raise ValueError", "broken", PluginError),
        (listing("tiny-s", "(None)"), "degraded", PluginError),
        (hook("yield", "segcore_future()"), "incompatible", PluginIncompatibleError),
    ],
)
def test_row_28_strict_raises_the_first_plugin_error(site, monkeypatch, source, status, error):
    monkeypatch.setenv("SEGCORE_STRICT", "1")
    site.install("tiny", source)
    with pytest.raises(error, match=r"segcore-plugin-tiny 1\.0 \(plugin 'tiny'\): ") as caught:
        site.encoders.names()
    assert caught.value.distribution == "segcore-plugin-tiny"
    assert caught.value.phase == ("specs" if status == "degraded" else "import")
    assert (caught.value.__cause__ is None) == (status != "broken")
    assert site.plugin("tiny").status == status
    assert site.look() == []
    site.check_neighbours()


def test_row_28_strict_raises_for_what_the_scan_found(site, monkeypatch):
    monkeypatch.setenv("SEGCORE_STRICT", "1")
    site.install("tiny", entry_points="[segcore.v2]\ntiny = x\n")
    with pytest.raises(PluginIncompatibleError, match="interface 2"):
        site.encoders.names()
    site.check_neighbours()


def test_row_28_zero_is_not_strict(site, monkeypatch):
    monkeypatch.setenv("SEGCORE_STRICT", "0")
    site.install("tiny", "raise ValueError")
    site.check("tiny", "broken", "ValueError")


CALLS = {
    "list_encoders": lambda: segcore.list_encoders("*"),
    "get": lambda: segcore.encoders.get("absent"),
    "in": lambda: "absent" in segcore.encoders,
    "items": lambda: list(segcore.encoders.items()),
    "create": lambda: segcore.create_encoder("aaa-net", depth=2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("trouble", ["unknown", "broken"])
def test_warnings_point_to_the_call_of_the_user(site, monkeypatch, call, trouble):
    if trouble == "unknown":
        monkeypatch.setenv("SEGCORE_PLUGINS", "-absent")
    else:
        site.install("tiny", "raise ValueError")
    make_global(site, monkeypatch)
    with pytest.warns(PluginWarning) as caught:
        call()
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, call.__code__.co_firstlineno)


def test_warnings_as_errors_raise_once_per_plugin(site):
    site.install("bad", "raise ValueError")
    site.install("worse", listing("worse-s", "(None)"))
    for part in ("'bad'", "'worse'"):
        with pytest.raises(PluginWarning, match=part):
            site.encoders.names()
    assert site.encoders.names() == ["aaa-net", "worse-s", "zzz-net"]
    site.check_neighbours()


def test_row_33_installation_in_a_running_session(site):
    assert site.look() == []
    with pytest.raises(UnknownNameError):
        site.encoders.resolve("tiny-s")
    site.install("tiny", listing("tiny-s", decoder("tiny-d", "TinyD")))
    first = site.encoders["aaa-net"]
    assert site.encoders.resolve("tiny-s").provenance.namespace == "tiny"
    assert site.encoders["aaa-net"] is first
    assert "tiny-s" in site.encoders.names()
    site.install("yak", listing("yak-s", decoder("yak-d", "YakD")))
    assert site.encoders.resolve("yak/yak-s").name == "yak-s"
    site.install("ox", listing(decoder("ox-d", "OxD")))
    assert site.decoders.by_title("OxD").name == "ox-d"
    site.check("ox", "ok")


def test_row_33_package_that_a_plugin_lacked(site):
    site.install("tiny", "import fake_missing\n" + listing("tiny-s"))
    site.check("tiny", "broken", "fake_missing")
    (site.folder / "fake_missing.py").write_text("")
    site.touch(site.folder)
    assert site.encoders.resolve("tiny-s").name == "tiny-s"
    site.check("tiny", "ok")


def test_row_33_still_broken_after_a_rescan_warns_no_second_time(site):
    site.install("tiny", "raise ValueError('same')")
    site.check("tiny", "broken", "same")
    site.touch(site.folder)
    with recorded() as messages, pytest.raises(UnknownNameError, match="same"):
        site.encoders.resolve("absent")
    assert messages == []


def test_miss_without_an_installation_scans_nothing(site):
    scans = []
    catalogue = Catalogue(lambda: scans.append(1) or scan(site.path))
    catalogue.load_all()
    assert not catalogue.rescan_if_changed()
    assert len(scans) == 1
    site.touch(site.folder)
    assert catalogue.rescan_if_changed()
    assert not catalogue.rescan_if_changed()
    assert len(scans) == 2


@pytest.mark.parametrize(
    "use",
    [
        "segcore.list_encoders()",
        "segcore.list_plugins()",
        "segcore.refresh()",
        "segcore.encoders['aaa-net']",
        "len(segcore.encoders)",
        "'x' in segcore.encoders",
        "segcore.encoders['mine'] = dict",
        "segcore.encoders.register(dict, name='mine')",
        "segcore.Unet",
        "segcore.NoSuchTitle",
    ],
)
@pytest.mark.parametrize("where", ["import", "listing"])
def test_row_34_plugin_uses_the_registry_while_it_is_loaded(site, monkeypatch, use, where):
    make_global(site, monkeypatch)
    monkeypatch.delitem(vars(segcore), "Unet", raising=False)
    site.install("tiny", f"import segcore\n{use}" if where == "import" else listing("tiny-s", after=f"    {use}"))
    with recorded() as messages:
        assert segcore.list_encoders("*-net") == ["aaa-net", "zzz-net"]
    assert len(messages) == 1
    assert "PluginError: " in messages[0]
    assert "'tiny'" in messages[0]
    assert "is being loaded" in messages[0]
    title = re.fullmatch(r"segcore\.([A-Z]\w*)", use)
    assert title is None or f"segcore has no public name '{title[1]}'" in messages[0]
    plugins = {plugin.namespace: plugin for plugin in segcore.list_plugins()}
    assert {name: plugin.status for name, plugin in plugins.items()} == {
        "aaa": "ok",
        "tiny": "broken" if where == "import" else "degraded",
        "zzz": "ok",
    }
    assert "mine" not in segcore.encoders


def test_row_34_functions_that_run_later_may_use_it(site, monkeypatch):
    make_global(site, monkeypatch)
    find = "    spec = segcore.encoders['aaa-net']\n    return dataclasses.replace(spec, name=name.partition('/')[2])"
    site.install("tiny", f"import dataclasses\n{HEADER}\n@hookimpl\ndef segcore_find(kind, name):\n{find}")
    assert segcore.encoders["tiny/anything"].name == "anything"
    assert segcore.encoders["tiny/anything"].provenance.namespace == "tiny"
    assert segcore.encoders["aaa-net"].provenance.namespace == "aaa"


def test_row_35_eight_threads_load_once(site):
    slow = "import time\ntime.sleep(0.02)\nimport fake_count\nfake_count.imports.append(__name__)\n"
    counted = "    import fake_count, time\n    fake_count.listings.append(__name__)\n    time.sleep(0.01)"
    (site.folder / "fake_count.py").write_text("imports = []\nlistings = []")
    for number in range(6):
        site.install(f"p{number}", slow + listing(f"p{number}-s", after=counted))
    site.install("bad", slow + "raise ValueError")
    barrier = threading.Barrier(8)
    results, failures = [], []

    def work(number):
        barrier.wait()
        try:
            results.append((site.encoders.resolve(f"p{number % 6}-s").name, tuple(site.encoders.names())))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    with recorded() as messages:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len({listed for _, listed in results}) == 1
    counts = sys.modules["fake_count"]
    assert sorted(counts.imports) == sorted(
        [*(f"segcore_plugin_p{number}" for number in range(6)), "segcore_plugin_bad"]
    )
    assert sorted(counts.listings) == [f"segcore_plugin_p{number}" for number in range(6)]
    assert len(messages) == 1
    site.check_neighbours()


def test_tables_filled_by_many_threads_hold_each_name_once(site):
    site.install("tiny", listing(*(f"tiny-{number}" for number in range(50))))
    failures = []

    def work():
        try:
            for number in range(50):
                site.encoders.resolve(f"tiny-{number}")
                if number % 10 == 0:
                    site.catalogue.rescan()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []


OBSERVER = hook("import fake_seen\nfake_seen.names.append(__name__)\n{more}", "segcore_model_created(config)")


@pytest.mark.parametrize("more", ["raise ValueError('seen')", "raise SystemExit('seen')"])
def test_row_39_observer_raises(site, monkeypatch, more):
    (site.folder / "fake_seen.py").write_text("names = []")
    site.install("tiny", OBSERVER.replace("{more}", more))
    site.install("yak", OBSERVER.replace("{more}", "assert config == {'x': 1}"))
    site.install("bad", "raise ImportError")
    make_global(site, monkeypatch)
    with recorded() as messages:
        discovery.notify("segcore_model_created", model=None, config={"x": 1})
    assert sys.modules["fake_seen"].names == ["segcore_plugin_tiny", "segcore_plugin_yak"]
    assert len(messages) == 2
    assert "segcore-plugin-tiny 1.0 (plugin 'tiny'): segcore_model_created raised" in messages[1]
    assert "seen" in messages[1]
    site.look()
    site.check_neighbours()


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("raise ValueError('broken')", "raised ValueError: broken"),
        ("raise SystemExit('broken')", "raised SystemExit: broken"),
        (f"return {encoder('other')}", "answered with the encoder 'other'"),
        ("return DecoderSpec('x', factory='a:b')", "answered with the decoder 'x'"),
        ("return EncoderSpec('x', factory='a:b')", "'x' must declare out_channels"),
        (f"return {encoder('aaa/x')}", "lies in another namespace"),
        ("return 'x'", "a record must be an EncoderSpec"),
        ("return False", "a record must be an EncoderSpec"),
    ],
)
def test_row_40_find_raises_or_answers_another_name(site, body, part):
    site.install("tiny", hook(body, "segcore_find(kind, name)"))
    site.check("tiny", "ok")
    with pytest.raises(
        PluginError, match=r"segcore-plugin-tiny 1\.0 \(plugin 'tiny'\): segcore_find\('encoder', 'tiny/x'\)"
    ) as caught:
        site.encoders.resolve("tiny/x")
    assert part in str(caught.value)
    assert (caught.value.distribution, caught.value.phase) == ("segcore-plugin-tiny", "find")
    assert (caught.value.__cause__ is not None) == ("raised" in part)
    with pytest.raises(UnknownNameError):
        site.encoders.resolve("x")
    site.check_neighbours()


def test_a_refusal_by_segcore_find_reaches_the_user_as_it_is(site):
    body = "from segcore import IncompatiblePartsError; raise IncompatiblePartsError('x selects by value.')"
    site.install("tiny", hook(body, "segcore_find(kind, name)"))
    with pytest.raises(segcore.IncompatiblePartsError, match=r"^x selects by value\.$"):
        site.encoders.resolve("tiny/x")


@pytest.mark.parametrize("name", ["x", "tiny/x", "y"])
def test_find_answers_with_any_form_of_the_name(site, name):
    site.install(
        "tiny",
        hook(
            "assert name == 'tiny/x'\nreturn " + encoder(name, "aliases=('x',)" if name == "y" else ""),
            "segcore_find(kind, name)",
        ),
    )
    spec = site.encoders.resolve("tiny/x")
    assert spec.name == name
    assert spec.provenance == segcore.Provenance("tiny", "segcore-plugin-tiny", "1.0")


def test_find_is_asked_only_after_the_list(site):
    site.install("tiny", listing("tiny-s") + hook("raise ValueError", "segcore_find()"))
    assert site.encoders.resolve("tiny/tiny-s").name == "tiny-s"
    with pytest.raises(UnknownNameError):
        site.encoders.resolve("nothing")


def test_row_43_spec_module_imports_torch(site):
    site.install("tiny", "import torch\n" + listing("tiny-s"))
    plugin = site.check("tiny", "ok")
    assert names(plugin) == ["tiny-s"]


def test_row_44_refresh_after_an_uninstallation(site, monkeypatch):
    make_global(site, monkeypatch)
    site.install("tiny", listing("tiny-s"))
    site.install("late", listing("late-s"))
    assert segcore.encoders["tiny/tiny-s"].name == "tiny-s"
    site.uninstall("segcore-plugin-tiny")
    site.uninstall("segcore-plugin-late")
    with recorded() as messages:
        stale = segcore.refresh()
    assert [plugin.namespace for plugin in stale] == ["tiny"]
    assert messages == ["segcore-plugin-tiny 1.0 changed since it was loaded; restart to use what is installed now."]
    assert segcore.list_encoders() == ["aaa-net", "tiny-s", "zzz-net"]
    assert [plugin.namespace for plugin in segcore.list_plugins()] == ["aaa", "tiny", "zzz"]


@pytest.mark.parametrize("module", ["segcore_plugin_tiny", "fake_tiny_2"])
@pytest.mark.parametrize("loaded", ["listed", "imported", None])
def test_row_44_refresh_after_an_upgrade(site, module, loaded):
    site.install("tiny", listing("tiny-s"))
    site.catalogue.plugins()
    if loaded == "listed":
        site.catalogue.load("tiny")
    elif loaded == "imported":
        site.catalogue.implementations("segcore_find")
    site.uninstall("segcore-plugin-tiny")
    site.install("tiny", listing("tiny-m"), version="2.0", module=module)
    stale = [plugin.title for plugin in site.catalogue.rescan()]
    assert stale == (["segcore-plugin-tiny 1.0"] if loaded else [])
    assert site.encoders.names("tiny*") == (["tiny-s"] if loaded else ["tiny-m"])
    assert site.plugin("tiny").version == ("1.0" if loaded else "2.0")
    site.check("tiny", "ok")


def test_row_44_refresh_adds_what_is_new(site):
    assert site.look() == []
    site.install("tiny", listing("tiny-s"))
    assert site.catalogue.rescan() == []
    site.check("tiny", "ok")


def test_row_44_another_package_takes_the_namespace_of_a_loaded_one(site):
    site.install("tiny", listing("tiny-s"), distribution="one", module="fake_one")
    assert site.encoders.resolve("tiny/tiny-s").provenance.distribution == "one"
    site.uninstall("one")
    site.install("tiny", listing("tiny-m"), distribution="two", module="fake_two")
    assert [plugin.distribution for plugin in site.catalogue.rescan()] == ["one"]
    assert site.encoders.resolve("tiny/tiny-s").provenance.distribution == "one"
    assert site.encoders.resolve("two/tiny-m").provenance.distribution == "two"
    assert "in use until this program is restarted" in site.plugin("two").notes[0]
    assert site.look() == []
    site.check_neighbours()


@pytest.mark.parametrize("namespace", ["tiny", "renamed"])
def test_row_44_another_package_brings_the_module_of_a_loaded_one(site, namespace):
    site.install("tiny", listing("tiny-s"), distribution="one", module="fake_tiny")
    assert site.look() == []
    site.uninstall("one")
    site.install(namespace, listing("tiny-m"), distribution="two", module="fake_tiny")
    assert [plugin.distribution for plugin in site.catalogue.rescan()] == ["one"]
    assert list(site.catalogue.plugins()) == ["aaa", "tiny", "zzz"]
    assert site.encoders.names("tiny*") == ["tiny-s"]
    assert site.look() == []
    site.check_neighbours()


def test_row_44_refresh_sees_modules_that_the_import_system_has_not_noticed(site, tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    assert site.look() == []
    before = (tmp_path / "modules").stat()
    site.install("tiny", None)
    (tmp_path / "modules" / "segcore_plugin_tiny.py").write_text(listing("tiny-s"))
    os.utime(tmp_path / "modules", ns=(before.st_atime_ns, before.st_mtime_ns))  # as on a coarse file system
    assert site.catalogue.rescan() == []
    site.check("tiny", "ok")


def test_row_44_second_claim_to_the_namespace_of_a_loaded_one(site):
    site.install("tiny", listing("tiny-s"), distribution="one", module="fake_one")
    assert site.encoders.resolve("tiny/tiny-s").provenance.namespace == "tiny"
    site.install("tiny", listing("tiny-m"), distribution="two", module="fake_two")
    assert site.catalogue.rescan() == []
    assert site.encoders.names("*tiny*") == ["tiny-m", "tiny-s"]
    assert site.encoders.resolve("tiny/tiny-s").provenance.distribution == "one"
    assert site.encoders.resolve("two/tiny-m").provenance.distribution == "two"
    assert site.look() == []


def test_row_46_no_metadata_at_all(site):
    site.path.clear()
    assert site.look() == []
    assert site.catalogue.plugins() == {}
    with pytest.raises(UnknownNameError, match="No plugin is installed: try `pip install segcore-plugin-resnet"):
        site.encoders.resolve("anything")
    site.encoders["mine"] = dict
    assert site.encoders.names() == ["mine"]
    assert site.encoders["mine"].factory is dict


def test_a_fake_installation_leaves_nothing_on_the_path(tmp_path):
    before = list(sys.path)
    with pytest.MonkeyPatch.context() as environ, fake_site(tmp_path / "site", environ):
        environ.syspath_prepend(tmp_path / "more")
        assert str(tmp_path / "site") in sys.path
    assert sys.path == before


def test_row_49_what_is_really_installed_is_invisible(site, monkeypatch):
    assert len(scan()) > len(scan(site.path))
    assert site.encoders.names() == ["aaa-net", "zzz-net"]
    make_global(site, monkeypatch)
    assert segcore.list_encoders() == ["aaa-net", "zzz-net"]
    assert segcore.list_decoders() == []
    assert [plugin.namespace for plugin in segcore.list_plugins()] == ["aaa", "zzz"]


@pytest.mark.parametrize("order", list(itertools.permutations(["a", "b", "c"])))
def test_hooks_are_called_in_one_order_whatever_was_loaded_first(site, order):
    for name, marker in (
        ("a", "@hookimpl(trylast=True)"),
        ("b", "@hookimpl"),
        ("c", "@hookimpl"),
        ("d", "@hookimpl(tryfirst=True)"),
    ):
        site.install(name, hook("return None", "segcore_doctor()", marker))
    for name in order:
        site.catalogue.load(name)
    assert [plugin.namespace for plugin, _ in site.catalogue.implementations("segcore_doctor")] == ["d", "b", "c", "a"]


def test_plugins_are_loaded_only_as_far_as_needed(site):
    site.install("tiny", listing("tiny-s"))
    site.catalogue.plugins()
    assert {plugin.status for plugin in site.catalogue.plugins().values()} == {"installed"}
    assert "segcore_plugin_tiny" not in sys.modules
    assert site.encoders.resolve("tiny/tiny-s").name == "tiny-s"
    assert "segcore_plugin_aaa" not in sys.modules
    assert site.catalogue.load("absent") is None
    assert site.catalogue.load_all() is site.catalogue.load_all()
