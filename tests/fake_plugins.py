"""Fake installations: metadata folders and modules in a temporary folder that discovery is restricted to."""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

from segcore import PluginWarning, discovery, registry
from segcore.discovery import Catalogue
from segcore.installed import scan
from segcore.registry import Registry

ROOT = Path(__file__).parents[1]
CHANNELS = (3, 8, 16, 24, 32, 40)  # of segcore.testing.TinyEncoder
HEADER = "import segcore\nfrom segcore import DecoderSpec, EncoderSpec, LossSpec, Weights, hookimpl\n"
ENCODER = f'EncoderSpec({{name!r}}, factory="segcore.testing:TinyEncoder", out_channels={CHANNELS}{{more}})'
GUARD = "import segcore.discovery, segcore.installed\nsegcore.discovery.catalogue._scanner = lambda: segcore.installed.scan([{folder!r}])\n"


def encoder(name, more=""):
    """Return the source of a record of an encoder that can be built; `more` are further arguments."""
    return ENCODER.format(name=name, more=f", {more}" if more else "")


def decoder(name, title=None):
    return f'DecoderSpec({name!r}, factory="segcore.testing:TinyDecoder", title={title!r})'


def listing(*records, before="", after=""):
    """Return the source of a module that lists records, given as sources or as names of encoders."""
    records = [record if "(" in record else encoder(record) for record in records]
    lines = [f"    yield {record}" for record in records] or ["    return iter(())"]
    return "\n".join([HEADER + textwrap.dedent(before), "@hookimpl", "def segcore_specs():", *lines, after])


class Site:
    """A folder like ``site-packages``, a catalogue that sees nothing else, and registries on it.

    Two healthy plugins, ``aaa`` and ``zzz``, stand before and behind whatever a test installs.
    """

    def __init__(self, folder):
        self.folder = folder
        self.path = [str(folder)]
        self.catalogue = Catalogue(lambda: scan(self.path))
        self.encoders, self.decoders = (Registry(kind, self.catalogue) for kind in ("encoder", "decoder"))
        self.clock = 0
        for name in ("aaa", "zzz"):
            self.install(name, listing(f"{name}-net"), requires=["segcore>=0.1", "torch"])

    def install(
        self,
        namespace,
        source="",
        *,
        distribution=None,
        version="1.0",
        module=None,
        entry_points=None,
        metadata=None,
        requires=(),
        folder=None,
        suffix="dist-info",
    ):
        """Install a plugin whose module has this source.

        Args:
            source: None for an entry point without a module.
            entry_points: text or bytes of the file; one entry point ``namespace = module`` by default, False for none.
            metadata: text or bytes of the file, False for none.
            folder: another folder of the path.
            suffix: ``"dist-info"`` or ``"egg-info"``.
        """
        folder = folder or self.folder
        distribution = distribution or f"segcore-plugin-{namespace}"
        module = module or f"segcore_plugin_{namespace.replace('-', '_')}"
        if entry_points is None:
            entry_points = f"[segcore.v1]\n{namespace} = {module}\n"
        if metadata is None:
            lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
            metadata = "\n".join([*lines, *(f"Requires-Dist: {line}" for line in requires), "", "A plugin."])
        info = folder / f"{distribution.replace('-', '_')}-{version}.{suffix}"
        info.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("METADATA" if suffix == "dist-info" else "PKG-INFO", metadata),
            ("entry_points.txt", entry_points),
        ):
            if text is not False:
                (info / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        if source is not None:
            (folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        self.touch(folder)

    def uninstall(self, distribution):
        for info in self.folder.glob(f"{distribution.replace('-', '_')}-*"):
            shutil.rmtree(info)
        self.touch(self.folder)

    def touch(self, folder):
        """Give the folder a new time, which its file system may be too coarse for."""
        self.clock += 1
        os.utime(folder, (1_000_000_000 + self.clock,) * 2)

    def look(self):
        """Load everything; return the messages of the warnings, each of which must be a PluginWarning."""
        with recorded() as messages:
            self.catalogue.load_all()
        return messages

    def plugin(self, namespace):
        return self.catalogue.plugins()[namespace]

    def check_neighbours(self):
        """The healthy plugins are found and listed whatever the others do."""
        for name in ("aaa", "zzz"):
            assert self.encoders.resolve(f"{name}-net") is self.encoders.resolve(f"{name}/{name}-net")
            assert f"{name}-net" in self.encoders.names()
            assert self.plugin(name).status == "ok"

    def check(self, namespace, status, *parts):
        """Look; the plugin has this status, a reason with these parts and one warning; its neighbours work."""
        messages = self.look()
        plugin = self.plugin(namespace)
        assert plugin.status == status, plugin
        if status == "ok":
            assert (plugin.reason, messages) == (None, [])
        else:
            assert len(messages) == 1, messages
            for part in (*parts, plugin.reason, plugin.distribution, plugin.version, repr(namespace)):
                assert part in messages[0], (part, messages[0])
            assert "\n" not in messages[0]
        self.check_neighbours()
        assert self.look() == []
        return plugin


@contextlib.contextmanager
def recorded():
    """Yield a list that gets the messages of PluginWarnings; other warnings fail."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", PluginWarning)
        messages = []
        yield messages
        messages += [str(warning.message) for warning in caught]


@contextlib.contextmanager
def fake_site(folder, environ):
    """Yield a `Site` in a folder that modules can be imported from; forget them afterwards.

    Args:
        environ: a monkeypatch, which keeps what the user has set away.
    """
    for name in ("SEGCORE_PLUGINS", "SEGCORE_STRICT"):
        environ.delenv(name, raising=False)
    folder.mkdir(exist_ok=True)
    for name in [name for name in sys.modules if name.startswith("segcore_plugin_")]:
        environ.delitem(sys.modules, name)  # a real plugin that another test imported must not answer for a fake one
    before = set(sys.modules)
    environ.syspath_prepend(folder)  # not setattr: a test's own syspath_prepend would bring the folder back at the end
    environ.setattr(sys, "dont_write_bytecode", True)
    try:
        yield Site(folder)
    finally:
        for name in set(sys.modules) - before:
            if re.match(r"segcore_plugin_|fake_", name):
                del sys.modules[name]
        importlib.invalidate_caches()


def make_global(site, monkeypatch):
    """Let the functions of segcore itself see the site, and nothing that is really installed."""
    for name, value in vars(Catalogue(lambda: scan(site.path))).items():
        monkeypatch.setattr(discovery.catalogue, name, value)
    for real in (registry.encoders, registry.decoders, registry.losses):
        for name, value in vars(Registry(real.kind, discovery.catalogue)).items():
            monkeypatch.setattr(real, name, value)


def run_python(code, *, folder=None, flags=("-W", "error"), **environ):
    """Run code in a fresh interpreter; with a folder, global discovery sees only that.

    Returns:
        The completed process, its output as text.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SEGCORE_", "PYTHON"))}
    paths = [str(ROOT)] if folder is None else [str(ROOT), str(folder)]
    guard = "" if folder is None else GUARD.format(folder=str(folder))
    return subprocess.run(
        [sys.executable, *flags, "-c", guard + textwrap.dedent(code)],
        env=clean | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"} | environ,
        cwd=folder or ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def run_segcore(*arguments, folder, flags=("-W", "error"), **environ):
    """Run the command line in a fresh interpreter that sees only the plugins in a folder."""
    code = f"from segcore.cli import main\nmain({list(arguments)!r})"
    return run_python(code, folder=folder, flags=flags, **environ)
