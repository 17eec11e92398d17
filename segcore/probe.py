"""A plugin in a process of its own: what it does when it is imported, asked for its records, and built.

`examine` starts the process and survives whatever the plugin does to it. `segcore doctor` and the conformance kit read
what it returns. The process itself runs `_Watch` and the functions below it; it writes down each step before it takes
it, so that a crash or a hang is known by its step.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

HEAVY = ("torch", "timm", "numpy", "torchvision", "transformers", "scipy", "PIL", "cv2", "pandas")
STEPS = ("list", "factories", "doctor", "build")

_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
_PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn"}
_FILES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def examine(
    namespace: str,
    steps: Sequence[str] = ("list",),
    *,
    timeout: float = 60.0,
    encoders: Sequence[str] = (),
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Run a plugin in a fresh process and return what was seen.

    Args:
        namespace: the plugin's id.
        steps: of `STEPS`, in this order; ``"list"`` first.
        timeout: seconds after which the process is killed.
        encoders: names to build in the step ``"build"``; decoders are all built.
        stop: kills the process once it is set, by another thread.

    Returns:
        What each step saw, under its name, as far as it came; ``"ended"`` says why the process did not come to its
        end, or None; ``"how"`` is then ``"crash"``, ``"hang"`` or ``"exit"``, ``"step"`` and ``"where"`` what it did.
    """
    with tempfile.TemporaryDirectory(prefix="segcore-probe-") as folder:
        report = Path(folder) / "report"
        order = {"namespace": namespace, "steps": list(steps), "encoders": list(encoders), "path": sys.path}
        code = f"from segcore.probe import run; run({json.dumps(order)!r}, {str(report)!r})"
        own = str(Path(__file__).resolve().parents[1])
        start = f"import sys; sys.path.insert(0, {own!r}); "
        with (Path(folder) / "out").open("w+b") as out:  # a file: a pipe could be held open by the plugin's children
            how, ended = _run([sys.executable, "-B", "-X", "faulthandler", "-c", start + code], out, timeout, stop)
            out.seek(0)
            text = out.read().decode(errors="replace")
        seen: dict[str, Any] = {"step": "start"}
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
        for line in lines:
            seen |= json.loads(line)
        if ended is None and not seen.get("done"):
            how, ended = "exit", "it ended the process with exit code 0"
        where = place_of(text) if ended else None
        return seen | {"how": how, "ended": ended, "where": where, "output": text[-2000:]}


def _run(command: list[str], out: Any, timeout: float, stop: threading.Event | None) -> tuple[str | None, str | None]:
    """Run a command, killing it and its children after the time-out; return how and why it did not end well."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
    )
    try:
        code = _wait(process, timeout, stop)
    except subprocess.TimeoutExpired:
        _stop(process)
        return "hang", f"it did not end within {timeout:g} s"
    except BaseException:
        _stop(process)
        raise
    if code < 0:
        with contextlib.suppress(ValueError):
            return "crash", f"it crashed with {signal.Signals(-code).name}"
        return "crash", f"it crashed with signal {-code}"
    return (None, None) if code == 0 else ("exit", f"it ended the process with exit code {code}")


def _wait(process: subprocess.Popen[bytes], timeout: float, stop: threading.Event | None) -> int:
    """Return the exit code; raise `subprocess.TimeoutExpired` when the time is over or `stop` is set."""
    if stop is None:
        return process.wait(timeout)
    end = time.monotonic() + timeout
    while not stop.is_set() and time.monotonic() < end:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(0.2, timeout))
    raise subprocess.TimeoutExpired(process.args, timeout)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGABRT)  # faulthandler says where it hangs
            process.wait(5)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def place_of(text: str) -> str | None:
    """Return the innermost line of Python in faulthandler's report, one outside the standard library if there is."""
    pattern = r'hread .*most recent call first\):\n((?:\s+File ".+?", line .*\n?)+)'
    report = re.search("Current t" + pattern, text) or re.search("T" + pattern, text)
    lines = re.findall(r'^\s+File "(.+?)", line (\d+)', report[1], re.MULTILINE) if report else []
    standard = sysconfig.get_path("stdlib")
    foreign = [
        (file, line)
        for file, line in lines
        if not file.startswith("<") and (not file.startswith(standard) or "site-packages" in file)
    ]
    return next((f"{file}:{line}" for file, line in [*foreign, *lines]), None)


# --- in the process -------------------------------------------------------------------------------------------------


def run(order: str, report: str) -> None:
    """Take the steps that `examine` ordered, and write what is seen."""
    wanted = json.loads(order)
    sys.path[:] = wanted["path"]
    with Path(report).open("w", encoding="utf-8") as stream:
        watch = _Watch(stream)
        watch.say(step="list")
        plugin = _list(watch, wanted["namespace"])
        if plugin is not None and plugin.usable:
            for step in wanted["steps"]:
                if step != "list":
                    watch.say(step=step)
                    watch.say(**{step: _STEPS[step](watch, plugin, wanted["encoders"])})
        watch.say(done=True)


class _Watch:
    """Sees what happens in this process, and writes it down."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._touched: list[str] | None = None
        self._scratch = tempfile.gettempdir() + os.sep  # asked for now: it opens a file itself, under a lock
        sys.addaudithook(self._audit)

    def say(self, **facts: Any) -> None:
        """Write facts down, at once, since the next step may end the process."""
        self._stream.write(json.dumps(facts) + "\n")
        self._stream.flush()

    @contextlib.contextmanager
    def watching(self) -> Iterator[dict[str, Any]]:
        """Yield a dict that is filled, in the end, with what happened meanwhile."""
        from segcore.errors import PluginWarning

        seen: dict[str, Any] = {}
        printed = io.StringIO()
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("always")
            before = _settings()
            self._touched = []
            started = time.process_time()
            try:
                yield seen
            finally:
                seen["cpu_ms"] = 1000 * (time.process_time() - started)
                seen["touched"], self._touched = list(dict.fromkeys(self._touched))[:20], None
                after = _settings()
        seen["changed"] = [name for name, value in before.items() if name in after and after[name] != value]
        seen["printed"] = printed.getvalue()[:500]
        own = [warning for warning in caught if not issubclass(warning.category, PluginWarning)]
        seen["warnings"] = [f"{warning.category.__name__}: {warning.message}"[:300] for warning in own]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        touched = self._touched
        if touched is None:
            return
        if event in _NETWORK:
            touched.append(f"network: {event} {arguments[-1]!r:.80}")
        elif event in _PROCESSES:
            touched.append(f"process: {event} {arguments[0]!r:.80}")
        elif event in _FILES or (event == "open" and arguments[2] & _WRITES and arguments[0] != os.devnull):
            name = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else str(arguments[0])
            if "__pycache__" not in name and not (name + os.sep).startswith(self._scratch):
                touched.append(f"file: {event} {name:.200}")


def _settings() -> dict[str, Any]:
    """Return the process-wide settings that a plugin has to leave alone."""
    found: dict[str, Any] = {
        "os.environ": dict(os.environ),
        "sys.path": list(sys.path),
        "the working directory": os.getcwd(),  # noqa: PTH109
        "warnings.filters": [str(entry) for entry in warnings.filters],
        "the root logger": (logging.root.level, [str(handler) for handler in logging.root.handlers]),
        "the handler of Ctrl-C": str(signal.getsignal(signal.SIGINT)),
        "the state of random": hash(random.getstate()),
        "sys.excepthook": str(sys.excepthook),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found |= {
            "torch's default dtype": str(torch.get_default_dtype()),
            "torch's default device": str(torch.get_default_device()),
            "torch's gradient mode": torch.is_grad_enabled(),
            "torch's number of threads": torch.get_num_threads(),
            "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
            "torch's matmul precision": torch.get_float32_matmul_precision(),
            "torch.backends.cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
        }
    return found


def _list(watch: _Watch, namespace: str) -> Any:
    """Import a plugin and ask for its records."""
    import packaging.requirements  # noqa: F401 - not the plugin's time

    from segcore.discovery import catalogue
    from segcore.errors import PluginWarning
    from segcore.specs import as_json, kind_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # of other plugins; read from the status of this one
        os.environ.pop("SEGCORE_STRICT", None)
        known = catalogue.plugins().get(namespace)
    if known is None:
        watch.say(list={"status": "absent", "reason": f"no plugin {namespace!r} is installed"})
        return None
    with watch.watching() as seen:
        plugin = catalogue.load(namespace)
        heavy = sorted(name for name in HEAVY if name in sys.modules)
    assert plugin is not None
    seen |= {"heavy": heavy, "status": plugin.status, "reason": plugin.reason, "notes": plugin.notes}
    seen["names"] = [[kind_of(spec), spec.name] for spec in plugin.specs() if "/" not in spec.name]
    seen["records"] = [json.dumps(as_json(spec), sort_keys=True, default=repr) for spec in plugin.specs()]
    watch.say(list=seen)
    return plugin


def _factories(_watch: _Watch, plugin: Any, _encoders: Sequence[str]) -> dict[str, str]:
    """Import every factory; return what went wrong, by factory."""
    wrong: dict[str, str] = {}
    for factory in dict.fromkeys(spec.factory for spec in plugin.specs()):
        module, _, attribute = factory.partition(":")
        try:
            getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            wrong[factory] = f"{type(error).__name__}: {error}"[:300]
    return wrong


def _doctor(_watch: _Watch, plugin: Any, _encoders: Sequence[str]) -> list[str]:
    """Ask the plugin itself what is wrong."""
    from segcore.discovery import catalogue

    findings: list[str] = []
    for _, function in catalogue.implementations("segcore_doctor", only=plugin):
        try:
            findings.extend(" ".join(str(line).split()) for line in function() or ())
        except (Exception, SystemExit) as error:
            findings.append(f"segcore_doctor raised {type(error).__name__}: {error}"[:300])
    return findings


def _build(watch: _Watch, plugin: Any, encoders: Sequence[str]) -> dict[str, Any]:
    """Build encoders and all decoders, and send an image through each."""
    import torch

    from segcore import create
    from segcore.model import SegmentationModel
    from segcore.options import factory_of
    from segcore.testing.tiny import zoo

    wanted = set(encoders)
    chosen = [spec for spec in plugin.specs("encoder") if spec.name in wanted]
    zoo()["five levels"].eval()(torch.rand(1, 3, 32, 32))  # what torch does once is not the plugin's doing
    for spec in (*chosen, *plugin.specs("decoder")):
        with contextlib.suppress(Exception):
            factory_of(spec)  # nor what libraries do when they are imported
    with watch.watching() as seen:
        wrong: dict[str, str] = {}
        for spec in chosen:
            with _noted(wrong, spec.name):
                encoder: Any = create.create_encoder(spec)
                encoder.eval()(torch.rand(1, encoder.in_channels, *(2 * [_side(encoder)])))
        for spec in plugin.specs("decoder"):
            for shape, encoder in zoo().items():
                with _noted(wrong, f"{spec.name} with {shape}"):
                    decoder = create.create_decoder(spec, encoder)
                    model = SegmentationModel(encoder, decoder, decoder.default_head(2))
                    model.eval()(torch.rand(1, 3, 64, 64))
                    break
    return seen | {"wrong": wrong}


@contextlib.contextmanager
def _noted(wrong: dict[str, str], name: str) -> Iterator[None]:
    from segcore.errors import IncompatiblePartsError

    try:
        yield
    except IncompatiblePartsError:
        pass
    except Exception as error:
        wrong[name] = f"{type(error).__name__}: {error}"[:300]


def _side(encoder: Any) -> int:
    multiple: int = encoder.size_multiple
    return -(-64 // multiple) * multiple


_STEPS: dict[str, Callable[[_Watch, Any, Sequence[str]], Any]] = {
    "factories": _factories,
    "doctor": _doctor,
    "build": _build,
}
