"""The commands `segcore weights list | fetch | verify`."""

import hashlib
import json

import click
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save

from segcore import cli, transfer
from segcore.download import cache_dir
from tests.fake_plugins import encoder, fake_site, listing, make_global, run_segcore
from tests.hub_server import Server

DATA = {name: save({name: torch.ones(9)}) for name in ("a", "b", "c")}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with a file for each tag, and a short temper; http is allowed."""
    monkeypatch.delenv("SEGCORE_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SEGCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "SCHEMES", ("https", "http"))
    monkeypatch.setattr(transfer, "TICK", 0.02)
    made = Server()
    for name, data in DATA.items():
        made.put(f"/{name}.safetensors", data)
    yield made
    made.stop()


def weights(server, name, licence="MIT"):
    sha = hashlib.sha256(DATA[name]).hexdigest()
    return (
        f"Weights(url='{server.url}/{name}.safetensors', license={licence!r}, source='a paper', mean=(0.5,), std=(0.5,), "
        f"sha256={sha!r}, size={len(DATA[name])})"
    )


@pytest.fixture
def run(server, tmp_path, monkeypatch):
    """Return a function that runs `segcore weights` and gives back code, output and errors."""
    commands = dict(cli.cli.commands)
    with fake_site(tmp_path / "site", monkeypatch) as site:
        two = f"weights={{'one': {weights(server, 'a')}, 'two': {weights(server, 'b', 'CC-BY-NC-4.0')}}}"
        more = f"weights={{'one': {weights(server, 'c')}}}"
        site.install("tiny", listing(encoder("tiny-s", two), encoder("tiny-m", more), encoder("bare")))

        def run(*arguments):
            make_global(site, monkeypatch)
            monkeypatch.setattr(cli.cli, "_asked", False)
            monkeypatch.setattr(cli.cli, "commands", dict(commands))
            words = ("weights", *arguments)
            result = CliRunner().invoke(click.Command("main", callback=lambda: cli.main(words)), [])
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            return result.exit_code, result.stdout, result.stderr

        yield run


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_list(run, server):
    code, output, _ = run("list")
    assert code == 0
    assert rows(output) == [
        ["encoder", "tag", "license", "size", "pinned", "at_hand", "url"],
        ["tiny-m", "one", "MIT", str(len(DATA["c"])), "yes", "no", f"{server.url}/c.safetensors"],
        ["tiny-s", "one", "MIT", str(len(DATA["a"])), "yes", "no", f"{server.url}/a.safetensors"],
        ["tiny-s", "two", "CC-BY-NC-4.0", str(len(DATA["b"])), "yes", "no", f"{server.url}/b.safetensors"],
    ]
    assert server.requests == []
    assert len(rows(run("list", "*-m")[1])) == 2


def test_fetch_and_list(run, server):
    code, output, errors = run("fetch", "tiny-s", "--tag", "one")
    assert (code, errors) == (0, "")
    name, tag, path = output.split()
    assert (name, tag) == ("tiny-s", "one")
    listed = json.loads(run("list", "--json")[1])
    assert [(row["encoder"], row["tag"], row["path"]) for row in listed] == [
        ("tiny-m", "one", None),
        ("tiny-s", "one", path),
        ("tiny-s", "two", None),
    ]
    assert listed[1]["license"] == "MIT"
    assert listed[1]["source"] == "a paper"
    assert len(server.requests) == 1
    assert run("fetch", "tiny-s", "--tag", "one")[0] == 0
    assert len(server.requests) == 1


def test_fetch_takes_all_tags(run):
    code, output, _ = run("fetch", "tiny-m", "tiny/tiny-s", "--json")
    assert code == 0
    assert [(row["encoder"], row["tag"], row["error"]) for row in json.loads(output)] == [
        ("tiny-m", "one", None),
        ("tiny/tiny-s", "one", None),
        ("tiny/tiny-s", "two", None),
    ]


def test_fetch_all_of_a_pattern(run):
    assert [row[:2] for row in rows(run("fetch", "--all-of", "tiny-*", "--tag", "one")[1])] == [
        ["tiny-m", "one"],
        ["tiny-s", "one"],
    ]
    assert len(rows(run("fetch", "tiny-s", "--all-of", "*")[1])) == 3


def test_one_that_fails_does_not_stop_the_others(run, server):
    server.modes["/a.safetensors"] = 404
    code, output, errors = run("fetch", "tiny-s", "tiny-m")
    assert code == 5
    assert [row[:2] for row in rows(output)] == [["tiny-s", "two"], ["tiny-m", "one"]]
    assert errors.count("Error: weights 'one' of 'tiny/tiny-s' cannot be fetched") == 1
    assert "the server answers 404" in errors
    code, output, _ = run("fetch", "tiny-s", "--json")
    assert code == 5
    assert "404" in json.loads(output)[0]["error"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "Give the name of an encoder"),
        (("nothing",), 2, "No encoder is named 'nothing'"),
        (("--all-of", "nothing*"), 2, "No encoder that matches 'nothing*'"),
        (("--all-of", "*", "--tag", "zero"), 2, "No encoder that matches"),
        (("tiny-s", "--tag", "on"), 5, "has no weights 'on'"),
        (("bare",), 5, "has no published weights"),
        (("tiny-m", "bare"), 5, "has no published weights"),
    ],
)
def test_what_cannot_be_fetched_is_said_before_anything_is(run, server, arguments, code, says):
    done = run("fetch", *arguments)
    assert done[0] == code
    assert says in done[2]
    assert server.requests == []


def test_verify(run, server):
    assert rows(run("verify")[1]) == [["encoder", "tag", "status", "path", "reason"]]
    run("fetch", "--all-of", "*")
    code, output, _ = run("verify", "--json")
    assert code == 0
    found = json.loads(output)
    assert [row["status"] for row in found] == ["ok"] * 3
    path = next(row["path"] for row in found if (row["encoder"], row["tag"]) == ("tiny-s", "two"))
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    code, output, _ = run("verify")
    assert code == 5
    assert [row[2] for row in rows(output)[1:]] == ["ok", "ok", "damaged"]
    assert "SHA-256" in output
    assert run("verify", "tiny-m")[0] == 0
    server.requests.clear()
    assert run("fetch", "tiny-s")[0] == 0
    assert len(server.requests) == 1
    assert run("verify")[0] == 0


def test_an_air_gap(run, server, monkeypatch, tmp_path):
    run("fetch", "--all-of", "tiny-*")
    cache_dir().rename(tmp_path / "carried over")
    monkeypatch.setenv("SEGCORE_CACHE", str(tmp_path / "carried over"))
    monkeypatch.setenv("SEGCORE_OFFLINE", "1")
    server.requests.clear()
    assert run("fetch", "--all-of", "tiny-*")[0] == 0
    assert [row["at_hand"] for row in json.loads(run("list", "--json")[1])] == ["yes"] * 3
    assert server.requests == []


def test_listing_imports_no_torch(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as site:
        done = run_segcore("weights", "list", folder=site.folder, flags=("-X", "importtime"))
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.endswith("| torch")]
