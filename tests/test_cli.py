"""The command line: lists, patterns, JSON, commands of plugins, exit codes."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import segcore
from segcore import CheckpointError, PluginError, UnknownNameError, WeightsError, cli
from tests.fake_plugins import HEADER, decoder, encoder, fake_site, listing, make_global, recorded, run_segcore


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        yield made


@pytest.fixture
def segcore_command(site, monkeypatch):
    """Return a function that runs the command line here and gives back code, output and errors."""
    commands = dict(cli.cli.commands)

    def run(*arguments):
        make_global(site, monkeypatch)
        monkeypatch.setattr(cli.cli, "_asked", False)
        monkeypatch.setattr(cli.cli, "commands", dict(commands))
        result = CliRunner().invoke(click.Command("main", callback=lambda: cli.main(arguments)), [])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def rows(text):
    return [line.split() for line in text.splitlines()]


COMMANDS = """
import click

@hookimpl
def segcore_commands(cli):
    @cli.command()
    @click.argument("what")
    def greet(what):
        "Greet somebody."
        click.echo(f"hello {what}")

    @cli.command()
    def three():
        return 3

    @cli.command()
    def true():
        return True

    @cli.command()
    @click.argument("kind")
    def fail(kind):
        raise getattr(segcore, kind)("what happened")

    @cli.command()
    def interrupt():
        raise KeyboardInterrupt
"""


def test_plugins(site, segcore_command):
    site.install("tiny", listing("tiny-s", "tiny-m", decoder("tiny-d")), version="2.5")
    code, out, err = segcore_command("plugins")
    assert (code, err) == (0, "")
    table = rows(out)
    assert table[0] == ["id", "distribution", "version", "status", "names", "load_ms", "reason"]
    assert table[2][:5] == ["tiny", "segcore-plugin-tiny", "2.5", "ok", "3"]
    assert [row[0] for row in table[1:]] == ["aaa", "tiny", "zzz"]
    assert all(row[-1] == "-" for row in table[1:])


def test_plugins_show_what_is_wrong_in_one_line_each(site, segcore_command, monkeypatch):
    monkeypatch.setenv("SEGCORE_PLUGINS", "-yak")
    site.install("tiny", "raise ValueError('first\\nsecond\\tthird')")
    site.install("part", listing("part-s", "(None)"))
    site.install("ox", requires=["segcore>=99"])
    site.install("yak", "")
    with recorded() as messages:
        code, out, err = segcore_command("plugins")
    assert (code, err, messages) == (0, "", [])
    status = {row[0]: row[3] for row in rows(out)[1:]}
    assert status == {
        "aaa": "ok",
        "ox": "incompatible",
        "part": "degraded",
        "tiny": "broken",
        "yak": "disabled",
        "zzz": "ok",
    }
    assert "raised ValueError: first second third" in out
    assert len(out.splitlines()) == 7


def test_plugins_warn_of_a_mistake_in_the_environment(site, segcore_command, monkeypatch):
    monkeypatch.setenv("SEGCORE_PLUGINS", "-absent")
    with recorded() as messages:
        assert segcore_command("plugins")[0] == 0
    assert messages == ["SEGCORE_PLUGINS names 'absent', but no such plugin is installed."]


def test_plugins_as_json(site, segcore_command):
    site.install("tiny", "raise ValueError('bad')")
    code, out, _ = segcore_command("plugins", "--json")
    assert code == 0
    data = {row["id"]: row for row in json.loads(out)}
    assert list(data) == ["aaa", "tiny", "zzz"]
    assert data["tiny"]["status"] == "broken"
    assert data["tiny"]["reason"] == "importing 'segcore_plugin_tiny' raised ValueError: bad"
    assert data["aaa"]["reason"] is None
    assert data["aaa"]["load_ms"] >= 0
    assert set(data["aaa"]) == {"id", "distribution", "version", "status", "names", "load_ms", "reason", "notes"}


def test_encoders(site, segcore_command):
    weights = f"Weights(url='https://x.org/x.safetensors', sha256='{'a' * 64}', license='MIT', source='x', mean=(0.5,), std=(1.0,))"
    site.install(
        "tiny", listing(encoder("tiny-s", f"parameters=1234567, weights={{'imagenet': {weights}, 'other': {weights}}}"))
    )
    code, out, err = segcore_command("encoders")
    assert (code, err) == (0, "")
    assert rows(out)[0] == ["name", "package", "parameters", "out_channels", "strides", "tags", "licence"]
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["aaa-net", "tiny-s", "zzz-net"]
    line = out.splitlines()[2]
    for part in ("segcore-plugin-tiny", "1.2 M", "3, 8, 16, 24, 32, 40", "1, 2, 4, 8, 16, 32", "imagenet, other  MIT"):
        assert part in line
    assert out == "\n".join(line.rstrip() for line in out.splitlines()) + "\n"


def test_unpinned_tags_are_marked_and_their_licence_is_shown(site, segcore_command):
    weights = "Weights(url='hf://a/b/x.safetensors', license='CC0-1.0', source='x', mean=(0.5,) * 3, std=(1.0,) * 3)"
    site.install("tiny", listing(encoder("tiny-s", f"unpinned={{'web': {weights}}}")))
    assert segcore_command("encoders", "tiny-s")[1].splitlines()[1].split()[-2:] == ["web@", "CC0-1.0"]
    (row,) = json.loads(segcore_command("encoders", "tiny-s", "--json")[1])
    assert row["unpinned"]["web"]["license"] == "CC0-1.0"
    assert (row["tags"], row["weights"]) == (["web@"], {})
    (row,) = json.loads(segcore_command("weights", "list", "tiny-s", "--json")[1])
    assert (row["tag"], row["pinned"], row["at_hand"], row["revision"]) == ("web", "no", "no", None)
    code, _, errors = segcore_command("weights", "fetch", "tiny-s")
    assert (code, "'tiny/tiny-s' has no pinned weights" in errors) == (5, True)
    assert "vouches for none" in segcore_command("weights", "fetch", "tiny-s", "--tag", "web")[2]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("tiny*", ["tiny-s"]),
        ("tiny/*", ["tiny-s"]),
        ("*-net", ["aaa-net", "zzz-net"]),
        ("nothing*", []),
        ("aaa-net", ["aaa-net"]),
    ],
)
def test_patterns(site, segcore_command, pattern, expected):
    site.install("tiny", listing("tiny-s"))
    code, out, _ = segcore_command("encoders", pattern)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == expected
    code, out, _ = segcore_command("encoders", pattern, "--json")
    assert [row["name"] for row in json.loads(out)] == expected


def test_encoders_as_json(site, segcore_command):
    site.install("other", listing("tiny-s"))
    site.install("tiny", listing(encoder("tiny-s", "options={'width': 8}, url='https://x.org'")))
    code, out, _ = segcore_command("encoders", "--json", "tiny/*")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["name"], row["qualified"], row["kind"], row["package"]) == (
        "tiny/tiny-s",
        "tiny/tiny-s",
        "encoder",
        "segcore-plugin-tiny",
    )
    assert (row["out_channels"], row["strides"]) == ([3, 8, 16, 24, 32, 40], [1, 2, 4, 8, 16, 32])
    assert (row["options"], row["url"], row["factory"]) == (
        {"width": 8},
        "https://x.org",
        "segcore.testing:TinyEncoder",
    )
    assert row["provenance"] == {"namespace": "tiny", "distribution": "segcore-plugin-tiny", "version": "1.0"}


def test_decoders(site, segcore_command):
    site.install("tiny", listing("tiny-s", decoder("tiny-d", "TinyD"), decoder("plain")))
    code, out, _ = segcore_command("decoders")
    assert code == 0
    assert rows(out) == [
        ["name", "title", "package"],
        ["plain", "-", "segcore-plugin-tiny"],
        ["tiny-d", "TinyD", "segcore-plugin-tiny"],
    ]
    code, out, _ = segcore_command("decoders", "tiny-?", "--json")
    assert [row["title"] for row in json.loads(out)] == ["TinyD"]


def test_no_plugin_at_all(site, segcore_command):
    site.path.clear()
    assert segcore_command("plugins") == (0, "id  distribution  version  status  names  load_ms  reason\n", "")
    assert segcore_command("encoders", "--json") == (0, "[]\n", "")


def test_local_registrations_say_so(site, segcore_command, monkeypatch):
    make_global(site, monkeypatch)
    monkeypatch.setattr("tests.test_cli.make_global", lambda *_: None)
    segcore.encoders["mine"] = dict
    _, out, _ = segcore_command("encoders", "mine")
    assert rows(out)[1][:2] == ["mine", "local"]
    assert set(rows(out)[1][2:]) == {"-"}
    _, out, _ = segcore_command("encoders", "mine", "--json")
    assert json.loads(out)[0]["factory"] == "builtins:dict"


def test_commands_of_plugins(site, segcore_command):
    site.install("tiny", HEADER + COMMANDS)
    assert segcore_command("greet", "you") == (0, "hello you\n", "")
    code, out, _ = segcore_command("--help")
    assert code == 0
    assert "greet" in out
    assert "Greet somebody." in out
    assert "plugins" in out
    assert segcore_command("plugins")[0] == 0


def test_commands_of_plugins_are_asked_for_only_when_needed(site, segcore_command):
    site.install("tiny", HEADER + "@hookimpl\ndef segcore_commands(cli):\n    raise AssertionError")
    assert segcore_command("encoders")[0] == 0
    with recorded() as messages:
        code, _, err = segcore_command("greet")
    assert code == 2
    assert "No such command 'greet'" in err
    assert "segcore_commands raised AssertionError" in messages[0]


@pytest.mark.parametrize(
    "body", ["raise ValueError('bad')", "raise SystemExit(7)", "cli.add_command(None)", "import fake_absent"]
)
def test_plugin_whose_commands_fail_stops_nothing(site, segcore_command, body):
    site.install("able", HEADER + f"@hookimpl\ndef segcore_commands(cli):\n    {body}")
    site.install("tiny", HEADER + COMMANDS)
    with recorded() as messages:
        assert segcore_command("greet", "you") == (0, "hello you\n", "")
    assert len(messages) == 1
    assert "segcore-plugin-able 1.0 (plugin 'able'): segcore_commands raised" in messages[0]


def test_plugin_takes_no_command_of_another(site, segcore_command):
    take = "import click\n@hookimpl\ndef segcore_commands(cli):\n    cli.add_command(click.Command('{name}', callback=lambda: print('taken')))"
    site.install("able", HEADER + take.format(name="plugins"))
    site.install("tiny", HEADER + COMMANDS)
    site.install("yak", HEADER + take.format(name="three"))
    with recorded() as messages:
        code, out, _ = segcore_command("--help")
    assert code == 0
    assert "List the installed plugins" in out
    assert [message.partition(": ")[2] for message in messages] == [
        "segcore_commands raised ValueError: there is a command 'plugins' already.",
        "segcore_commands raised ValueError: there is a command 'three' already.",
    ]
    with recorded():
        assert segcore_command("three")[0] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["three"], 3, ""),
        (["true"], 0, ""),
        (["interrupt"], 130, "Interrupted.\n"),
        (["fail", "CheckpointError"], 4, "Error: what happened\n"),
        (["fail", "WeightsError"], 5, "Error: what happened\n"),
        (["fail", "PluginError"], 6, "Error: what happened\n"),
        (["fail", "PluginIncompatibleError"], 6, "Error: what happened\n"),
        (["fail", "UnknownNameError"], 2, "Error: what happened\n"),
        (["fail", "OptionValueError"], 2, "Error: what happened\n"),
        (["nothing"], 2, "No such command 'nothing'"),
        (["plugins", "--wrong"], 2, "No such option"),
        (["encoders", "a", "b"], 2, "unexpected extra argument"),
        (["--wrong"], 2, "No such option"),
        (["--version"], 0, ""),
        (["--help"], 0, ""),
        (["-h"], 0, ""),
        (["encoders", "-h"], 0, ""),
    ],
)
def test_exit_codes(site, segcore_command, arguments, code, message):
    site.install("tiny", HEADER + COMMANDS)
    result = segcore_command(*arguments)
    assert result[0] == code
    assert message in result[2]
    if not message:
        assert result[2] == ""
    assert "Traceback" not in result[2]


def test_an_interrupt_within_an_import_that_executes_text_has_the_same_code(site):
    site.install("tiny", HEADER + COMMANDS.replace("raise KeyboardInterrupt", "exec('raise KeyboardInterrupt')"))
    environment = os.environ | {"PYTHONPATH": str(site.folder)}
    command = [sys.executable, "-m", "segcore", "interrupt"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (130, "Interrupted.")


def test_every_error_has_an_exit_code():
    for error in (CheckpointError, WeightsError, PluginError, UnknownNameError, segcore.PluginWarning):
        assert any(issubclass(error, kind) for kind, _ in cli.EXIT_CODES)


def test_version(site, segcore_command):
    assert segcore_command("--version") == (0, f"segcore, version {segcore.__version__}\n", "")


# --- in a process of its own ------------------------------------------------------------------------------------------


def test_error_without_and_with_traceback(site):
    site.install("tiny", HEADER + COMMANDS)
    done = run_segcore("fail", "WeightsError", folder=site.folder)
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "Error: what happened\n")
    done = run_segcore("--debug", "fail", "WeightsError", folder=site.folder)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "WeightsError: what happened" in done.stderr


def test_broken_plugin_and_warnings_as_errors(site):
    site.install("tiny", "raise ValueError('bad')")
    done = run_segcore("plugins", "--json", folder=site.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["status"] for row in json.loads(done.stdout)] == ["ok", "broken", "ok"]
    done = run_segcore("encoders", folder=site.folder)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("Error: segcore-plugin-tiny 1.0 (plugin 'tiny') is left out")
    done = run_segcore("encoders", "--json", folder=site.folder, flags=())
    assert [row["name"] for row in json.loads(done.stdout)] == ["aaa-net", "zzz-net"]
    assert done.stderr.count("is left out") == 1
    done = run_segcore("encoders", folder=site.folder, SEGCORE_STRICT="1")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("Error: segcore-plugin-tiny 1.0 (plugin 'tiny'): importing")


def test_without_arguments_the_help_is_shown(site):
    done = run_segcore(folder=site.folder)
    assert done.returncode == 2
    assert "Usage: segcore" in done.stdout + done.stderr
