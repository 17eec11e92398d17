"""Downloads: what arrives is what was published, whatever the server does; nothing is asked when offline."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import types
from pathlib import Path

import filelock
import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.errors
import huggingface_hub.file_download
import pytest
import torch
from safetensors.torch import save

import segcore
from segcore import EncoderSpec, Weights, WeightsError, hub, transfer
from segcore.download import cache_dir, fetch, find, hub_files, own_path, problem_of, push_folder
from segcore.testing import TinyDecoder, TinyEncoder
from segcore.transfer import TransferError, watched
from tests.hub_server import Server, object_id

ROOT = Path(__file__).parents[1]
DATA = save({"weight": torch.arange(50_000, dtype=torch.float32)})
OTHER = save({"weight": torch.ones(50_000)})
SHA = hashlib.sha256(DATA).hexdigest()
REPOSITORY = "owner/name"
FILE = "model.safetensors"


@pytest.fixture
def server():
    made = Server()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """An empty cache, short deadlines, no proxy, and http allowed."""
    for name in ("SEGCORE_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SEGCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "SCHEMES", ("https", "http"))
    monkeypatch.setattr(transfer, "STALL", 5.0)
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.setattr(transfer, "TICK", 0.02)


@pytest.fixture
def hugging(server, tmp_path, monkeypatch):
    """The server as the endpoint of huggingface_hub, with an empty cache."""
    constants = huggingface_hub.constants
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, 2)
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return server


def record(url, **changes):
    facts = {"url": url, "license": "MIT", "source": "a test", "mean": (0.5,) * 3, "std": (0.5,) * 3, "sha256": SHA}
    return Weights(**(facts | changes))


def pinned(server, files=None, **changes):
    sha = server.commit(REPOSITORY, {FILE: DATA} if files is None else files)
    return record(f"hf://{REPOSITORY}/{FILE}", **({"revision": sha, "sha256": None} | changes))


def get(weights):
    return fetch(weights, "resnet/resnet18", "imagenet")


def left_in_cache():
    """Return the files that could be taken for weights or for a part of them."""
    return [path for path in cache_dir().rglob("*") if path.is_file() and path.suffix != ".lock"]


def refused(weights, *parts):
    """Fetching ends with an error that has these parts, names the address and leaves nothing usable."""
    with pytest.raises(WeightsError) as caught:
        get(weights)
    text = str(caught.value)
    for part in ("'imagenet' of 'resnet/resnet18'", weights.url, *parts):
        assert part in text, text
    assert "\n" not in text
    assert not own_path(weights).exists()
    return text


def run(code, **environ):
    head = "import sys\nfrom segcore import Weights, download, transfer\ntransfer.SCHEMES = ('https', 'http')\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestWeb:
    def test_a_file_is_fetched_once(self, server):
        weights = record(server.put("/a/tiny.safetensors", DATA), size=len(DATA))
        path = get(weights)
        assert path == own_path(weights)
        assert path.read_bytes() == DATA
        assert get(weights) == path
        assert len(server.requests) == 1
        assert left_in_cache() == [path]
        assert path.parent.parent == cache_dir()

    def test_no_credentials_are_sent(self, server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        get(record(server.put("/tiny.safetensors", DATA)))
        assert "hf_secret" not in repr(server.requests)

    @pytest.mark.parametrize("code", [404, 401, 403])
    def test_a_refusal_is_said_once(self, server, code):
        text = refused(record(server.put("/tiny.safetensors", DATA, code)), f"the server answers {code}")
        assert str(own_path(record(server.url + "/tiny.safetensors"))) in text
        assert len(server.requests) == 1

    def test_nobody_there(self, server):
        server.stop()
        refused(record(server.url + "/tiny.safetensors"), "cannot be reached")

    def test_a_failing_server_is_asked_again_a_few_times(self, server):
        assert get(record(server.put("/flaky.safetensors", DATA, "flaky"))).read_bytes() == DATA
        refused(record(server.put("/bad.safetensors", OTHER, 500), sha256="0" * 64), "answers 500", "5 times in a row")
        assert len(server.gets("/bad")) == transfer.RETRIES

    @pytest.mark.parametrize("mode", ["hang", "mute"])
    def test_silence_ends(self, server, monkeypatch, mode):
        monkeypatch.setattr(transfer, "STALL", 0.3)  # while the server is silent until the end of the test
        refused(record(server.put("/tiny.safetensors", DATA, mode)), "nothing came for 0.3 seconds")

    def test_a_drip_ends(self, server, monkeypatch):
        monkeypatch.setattr(transfer, "PATIENCE", 0.4)
        refused(record(server.put("/tiny.safetensors", DATA, "drip")), "bytes came in 0.4 seconds")

    def test_a_name_server_that_does_not_answer(self, monkeypatch):
        monkeypatch.setattr(transfer, "STALL", 0.2)
        answer = threading.Event()
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer.wait())
        refused(record("https://example.invalid/tiny.safetensors"), "nothing came for 0.2 seconds")
        answer.set()

    def test_a_broken_connection_is_continued(self, server):
        weights = record(server.put("/tiny.safetensors", DATA, "break"))
        assert get(weights).read_bytes() == DATA
        first, *others = server.gets("tiny")
        assert "Range" not in first
        assert all(headers["Range"] and headers["If-Range"] for headers in others)

    def test_without_an_entity_tag_it_begins_again(self, server):
        weights = record(server.put("/tiny.safetensors", DATA, "bare"))
        part = own_path(weights).with_name(own_path(weights).name + ".part")
        part.parent.mkdir(parents=True)
        part.write_bytes(DATA[:1000])
        assert get(weights).read_bytes() == DATA
        assert "Range" not in server.gets("tiny")[0]

    def begun(self, server, mode=None, beginning=DATA[:1000]):
        """Return a record of which a part lies in the cache already."""
        weights = record(server.put("/tiny.safetensors", DATA, mode))
        part = own_path(weights).with_name(own_path(weights).name + ".part")
        part.parent.mkdir(parents=True)
        part.write_bytes(beginning)
        part.with_name(part.name + ".etag").write_text(f'"{SHA[:16]}"')
        return weights

    def test_a_part_of_another_process_is_continued(self, server):
        assert get(self.begun(server)).read_bytes() == DATA
        assert [headers["Range"] for headers in server.gets("tiny")] == ["bytes=1000-"]
        assert len(left_in_cache()) == 1

    @pytest.mark.parametrize("mode", ["no-range", "moved", "bad-range"])
    def test_a_server_that_does_not_continue(self, server, mode):
        assert get(self.begun(server, mode)).read_bytes() == DATA

    def test_a_spoilt_part_is_thrown_away(self, server):
        assert get(self.begun(server, beginning=bytes(1000))).read_bytes() == DATA
        assert len(server.gets("tiny")) == 2

    def test_a_part_that_is_too_long_is_thrown_away(self, server):
        assert get(self.begun(server, beginning=DATA + b"more")).read_bytes() == DATA

    def test_the_file_changes_meanwhile(self, server):
        weights = self.begun(server, beginning=OTHER[:1000])
        server.modes["/tiny.safetensors"] = None
        part = own_path(weights).with_name(own_path(weights).name + ".part.etag")
        part.write_text('"another"')
        assert get(weights).read_bytes() == DATA

    def test_wrong_bytes_are_not_used(self, server):
        text = refused(record(server.put("/tiny.safetensors", DATA, "wrong")), "is not what was published", SHA[:16])
        assert "removed" in text
        assert left_in_cache() == []

    @pytest.mark.parametrize(
        ("mode", "size", "says"),
        [
            ("short", len(DATA), f"offers {len(DATA) // 2} bytes, {len(DATA)} were published"),
            ("long", len(DATA), f"offers {len(DATA) + 4} bytes"),
            ("endless", len(DATA), f"more than {len(DATA)} bytes"),
            ("short", None, "no sound safetensors file"),
            ("long", None, "no sound safetensors file"),
        ],
    )
    def test_lies_about_the_length(self, server, mode, size, says):
        refused(record(server.put("/tiny.safetensors", DATA, mode), size=size, sha256=None), says)

    def test_a_limit_without_a_published_size(self, server, monkeypatch):
        monkeypatch.setattr(transfer, "MAX_SIZE", 1000)
        refused(record(server.put("/tiny.safetensors", DATA)), "at most 1000 are fetched")
        refused(record(server.put("/more.safetensors", DATA, "endless")), "more than 1000 bytes")

    def test_a_full_disk_is_seen_beforehand(self, server, monkeypatch):
        monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: _Disk())
        refused(record(server.put("/tiny.safetensors", DATA)), "7 are free")

    def test_a_cache_that_cannot_be_made(self, server, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("SEGCORE_CACHE", str(tmp_path / "file"))
        refused(record(server.put("/tiny.safetensors", DATA)), "file")

    def test_no_page_of_text_is_taken_for_weights(self, server):
        refused(record(server.put("/tiny.safetensors", b"<html>" * 100), sha256=None), "no sound safetensors file")

    def test_redirects(self, server):
        there = server.put("/there.safetensors", DATA)
        assert get(record(server.put("/a.safetensors", b"", f"redirect:{there}"))).read_bytes() == DATA
        circle = server.put("/b.safetensors", b"", f"redirect:{server.url}/b.safetensors")
        refused(record(circle, sha256="0" * 64), "the server answers 302")

    @pytest.mark.parametrize("target", ["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x"])
    def test_redirects_to_other_schemes(self, server, monkeypatch, target):
        weights = record(server.put("/a.safetensors", b"", f"redirect:{target}"))
        check = transfer._check_scheme

        def lenient(url):
            if not url.startswith(server.url):
                check(url)

        monkeypatch.setattr(transfer, "_check_scheme", lenient)
        monkeypatch.setattr(transfer, "SCHEMES", ("https",))
        text = refused(weights)
        assert "only https addresses" in text or "not allowed" in text

    @pytest.mark.parametrize(
        "url", ["http://example.org/a", "file:///etc/a", "ftp://example.org/a", "/etc/a", "s3://a"]
    )
    def test_only_https(self, monkeypatch, url):
        monkeypatch.setattr(transfer, "SCHEMES", ("https",))
        refused(record(f"{url}.safetensors"), "only https addresses are fetched")

    @pytest.mark.parametrize("url", ["https://[a.safetensors", "https:///.safetensors", "https://a:x/b.safetensors"])
    def test_a_malformed_address(self, url):
        assert own_path(record(url)).parent == cache_dir() / "weights"
        refused(record(url), "cannot be fetched")

    def test_a_malformed_redirect(self, server):
        refused(record(server.put("/a.safetensors", b"", "redirect:https://[a")), "cannot be fetched")

    def test_https_is_the_only_scheme_outside_of_tests(self):
        code = "import segcore.transfer; print(segcore.transfer.SCHEMES, segcore.transfer.STALL)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=-1, text=True, check=True
        )
        assert done.stdout == "('https',) 60.0\n"


class _Disk:
    free = 7


class TestCache:
    def test_a_damaged_file_is_replaced(self, server):
        weights = record(server.put("/tiny.safetensors", DATA))
        path = get(weights)
        path.write_bytes(DATA[:-1] + b"x")
        assert get(weights).read_bytes() == DATA
        assert len(server.requests) == 2

    def test_a_damaged_file_is_removed_when_it_cannot_be_replaced(self, server, monkeypatch):
        weights = record(server.put("/tiny.safetensors", DATA))
        get(weights).write_bytes(DATA[:100])
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        refused(weights, "was damaged and is removed", "SEGCORE_OFFLINE forbids")

    def test_the_first_digest_counts_where_none_was_published(self, server):
        weights = record(server.put("/tiny.safetensors", DATA), sha256=None)
        path = get(weights)
        (note,) = (cache_dir() / "digests").glob("*.json")
        assert json.loads(note.read_text())["sha256"] == SHA
        path.write_bytes(OTHER)
        assert "as at the first download" in problem_of(path, weights)
        server.put("/tiny.safetensors", OTHER)
        refused(weights, "as at the first download")
        server.put("/tiny.safetensors", DATA)
        assert get(weights).read_bytes() == DATA

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 3}', '{"sha256": "x"}'])
    def test_a_spoilt_note_is_no_note(self, server, text):
        weights = record(server.put("/tiny.safetensors", DATA), sha256=None)
        path = get(weights)
        (note,) = (cache_dir() / "digests").glob("*.json")
        note.write_text(text)
        assert get(weights) == path
        assert json.loads(note.read_text())["sha256"] == SHA

    def test_a_cache_that_cannot_be_written_to_is_read(self, server, monkeypatch):
        weights = record(server.put("/tiny.safetensors", DATA), sha256=None)
        path = get(weights)
        for note in (cache_dir() / "digests").glob("*.json"):
            note.unlink()
        (cache_dir() / "digests").rmdir()
        (cache_dir() / "digests").write_text("in the way")
        assert get(weights) == path

    def test_names_say_what_they_hold(self):
        weights = record(f"hf://{REPOSITORY}/sub/{FILE}", revision="0" * 40)
        assert own_path(weights).name == f"owner--name--sub--model-{SHA[:16]}.safetensors"
        strange = record("https://example.org/%2e%2e%2f..%00 x?y=/../z.safetensors", sha256=None)
        assert own_path(strange).parent == cache_dir() / "weights"
        assert own_path(strange).name.replace("-", "").replace(".", "").replace("_", "").isalnum()


class TestProcesses:
    def start(self, url):
        code = f"weights = Weights(url={url!r}, license='MIT', source='x', mean=(0.5,), std=(0.5,), sha256={SHA!r})\n"
        return run(code + "print(download.fetch(weights, 'n', 't').stat().st_size)")

    def test_two_download_once(self, server):
        url = server.put("/tiny.safetensors", DATA, "slow")
        both = [self.start(url), self.start(url)]
        for process in both:
            output, errors = process.communicate()
            assert output == f"{len(DATA)}\n", errors
        assert len(server.requests) == 1

    def test_threads_too(self, server):
        weights = record(server.put("/tiny.safetensors", DATA, "slow"))
        found = []
        threads = [threading.Thread(target=lambda: found.append(get(weights))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [own_path(weights)] * 8
        assert len(server.requests) == 1

    def test_killed_and_continued(self, server):
        url = server.put("/tiny.safetensors", DATA, "drip")
        process = self.start(url)
        part = own_path(record(url)).with_name(own_path(record(url)).name + ".part")
        while not part.exists() or part.stat().st_size < 3:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.kill()
        process.communicate()
        assert find(record(url)) is None
        server.modes["/tiny.safetensors"] = None
        assert get(record(url)).read_bytes() == DATA
        assert server.gets("tiny")[-1]["Range"].startswith("bytes=")

    def test_who_waits_for_a_dead_download_gives_up(self, server, monkeypatch):
        weights = record(server.put("/tiny.safetensors", DATA))
        own_path(weights).parent.mkdir(parents=True)
        held = filelock.FileLock(own_path(weights).with_name(f".{own_path(weights).name}.lock"))
        monkeypatch.setattr(transfer, "STALL", 0.3)
        with held:
            refused(weights, "nothing came for 0.3 seconds")
        assert get(weights).read_bytes() == DATA

    def test_an_interrupt_stops_the_job(self, server, monkeypatch):
        weights = record(server.put("/tiny.safetensors", DATA, "drip"))
        shows = iter([None, None])

        def show(*_):
            if next(shows, "done") == "done":
                raise KeyboardInterrupt

        monkeypatch.setattr(transfer._Meter, "show", show)
        with pytest.raises(KeyboardInterrupt):
            get(weights)
        monkeypatch.setattr(transfer._Meter, "show", lambda *_: None)
        server.modes["/tiny.safetensors"] = None
        assert get(weights).read_bytes() == DATA  # the lock is free again


class TestProgress:
    class Terminal:
        def __init__(self, tty):
            self.text, self.tty = "", tty

        def isatty(self):
            return self.tty

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    @pytest.mark.parametrize("tty", [True, False])
    def test_on_a_terminal_only(self, server, monkeypatch, tty):
        terminal = self.Terminal(tty)
        monkeypatch.setattr(sys, "stderr", terminal)
        get(record(server.put("/tiny.safetensors", DATA, "slow")))
        assert ("resnet/resnet18: " in terminal.text and " % of 0.2 MB" in terminal.text) == tty
        assert terminal.text.endswith("\n") == tty

    def test_without_standard_error(self, server, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        assert get(record(server.put("/tiny.safetensors", DATA, "slow"))).read_bytes() == DATA

    def test_results_and_errors_come_back(self):
        assert watched(lambda watch: watch.came(3) or watch.position) == 3
        with pytest.raises(ZeroDivisionError):
            watched(lambda _: 1 / 0)

    def test_a_growing_probe_keeps_a_job_alive(self, monkeypatch):
        monkeypatch.setattr(transfer, "STALL", 0.3)
        begin = time.monotonic()
        assert watched(lambda _: time.sleep(0.8) or 1, probe=lambda: int(1000 * (time.monotonic() - begin))) == 1
        end = threading.Event()
        with pytest.raises(TransferError, match="nothing came"):
            watched(lambda _: end.wait(), probe=lambda: 7)
        end.set()


class TestOffline:
    @pytest.mark.parametrize(
        ("name", "value"),
        [("SEGCORE_OFFLINE", "1"), ("SEGCORE_OFFLINE", "yes"), ("HF_HUB_OFFLINE", "1"), ("HF_HUB_OFFLINE", "true")],
    )
    @pytest.mark.parametrize("kind", ["web", "hub"])
    def test_nothing_is_asked_and_the_error_says_what_to_do(self, hugging, monkeypatch, name, value, kind):
        weights = record(hugging.put("/tiny.safetensors", DATA)) if kind == "web" else pinned(hugging)
        monkeypatch.setenv(name, value)
        cache = huggingface_hub.constants.HF_HUB_CACHE if kind == "hub" else str(cache_dir())
        text = refused(
            weights, f"{name} forbids", "segcore weights fetch resnet/resnet18 --tag imagenet", cache, "pass its path"
        )
        assert str(own_path(weights)) in text
        assert hugging.requests == []

    @pytest.mark.parametrize("value", ["", "0"])
    def test_variables_that_mean_no(self, server, monkeypatch, value):
        monkeypatch.setenv("SEGCORE_OFFLINE", value)
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        assert get(record(server.put("/tiny.safetensors", DATA))).is_file()

    def test_what_is_cached_is_used(self, hugging, monkeypatch):
        web, hubs = record(hugging.put("/tiny.safetensors", DATA)), pinned(hugging)
        paths = [get(web), get(hubs)]
        hugging.requests.clear()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert [get(web), get(hubs)] == paths
        assert hugging.requests == []

    def test_a_file_put_there_by_hand_is_used(self, hugging, monkeypatch):
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        weights = pinned(hugging, sha256=SHA)
        own_path(weights).parent.mkdir(parents=True)
        own_path(weights).write_bytes(OTHER)
        refused(weights, "was damaged and is removed")
        own_path(weights).write_bytes(DATA)
        assert get(weights) == own_path(weights)


class TestHub:
    def test_the_file_lies_in_the_cache_of_the_hub(self, hugging, tmp_path):
        weights = pinned(hugging)
        path = get(weights)
        assert path.read_bytes() == DATA
        assert path.is_relative_to(tmp_path / "hub")
        count = len(hugging.requests)
        assert get(weights) == path
        assert len(hugging.requests) == count
        assert hub.object_id(path) == SHA

    def test_the_token_goes_to_the_endpoint_only(self, hugging, monkeypatch):
        hugging.token = "hf_secret"
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        hugging.storage = Server()
        try:
            assert get(pinned(hugging)).read_bytes() == DATA
            asked = [_lowered(request) for request in hugging.requests if REPOSITORY in request[1]]
            assert {headers["Authorization"] for _, _, headers in asked} == {"Bearer hf_secret"}
            assert hugging.storage.requests
            assert "hf_secret" not in repr(hugging.storage.requests)
        finally:
            hugging.storage.stop()

    def test_a_repository_that_cannot_be(self, hugging):
        weights = record("hf://-a-/b--c/model.safetensors", revision="0" * 40)
        assert find(weights) is None
        refused(weights, "HFValidationError")

    def test_private_gated_and_missing(self, hugging, monkeypatch):
        weights = pinned(hugging)
        hugging.token = "hf_secret"
        refused(weights, "does not exist, or it is private or gated", "HF_TOKEN")
        hugging.token = None
        refused(record("hf://owner/other/model.safetensors", revision="0" * 40), "does not exist, or it is private")
        refused(record(f"hf://{REPOSITORY}/model.safetensors", revision="0" * 40), "no such revision")
        refused(record(f"hf://{REPOSITORY}/no.safetensors", revision=weights.revision), "no such file")

    @pytest.mark.parametrize("url", ["hf://name/model.safetensors", "hf://a/../m.safetensors", "hf:///a/m.safetensors"])
    def test_a_malformed_address(self, url):
        assert find(record(url)) is None
        with pytest.raises(WeightsError, match="is no address on the hub"):
            get(record(url))

    @pytest.mark.parametrize("mode", ["head:", ""])
    def test_silence_ends(self, hugging, tmp_path, mode):
        weights = pinned(hugging)
        hugging.modes[mode + FILE] = "hang"  # to the end of the test: the process does not wait for threads that hang
        output, errors = self.fetch_elsewhere(weights, "transfer.STALL = 0.5", hugging, tmp_path).communicate()
        assert "TransferError: nothing came for 0.5 seconds" in errors, output

    def fetch_elsewhere(self, weights, before, server, tmp_path):
        """Fetch into the hub's cache in another process, which huggingface_hub's threads cannot outlive."""
        code = f"from segcore import hub\n{before}\n"
        code += f"print(hub.fetch_file(hub.package('', ''), {weights.url!r}, {weights.revision!r}))"
        return run(code, HF_HOME=str(tmp_path / "home"), HF_ENDPOINT=server.url, HF_TOKEN="hf_other")

    def test_a_slow_file_is_waited_for(self, hugging, monkeypatch):
        monkeypatch.setattr(transfer, "STALL", 0.4)
        monkeypatch.setattr(hub, "_PIECE", 2**14)
        hugging.modes[FILE] = "slow"
        assert get(pinned(hugging)).read_bytes() == DATA

    def test_its_pieces_are_small_only_meanwhile(self, monkeypatch):
        package = types.SimpleNamespace(constants=types.SimpleNamespace(DOWNLOAD_CHUNK_SIZE=10**7))
        monkeypatch.setattr(hub._SmallPieces, "_users", 0)
        first, second = hub._SmallPieces(package), hub._SmallPieces(package)
        first.__enter__()
        second.__enter__()
        first.__exit__()
        assert package.constants.DOWNLOAD_CHUNK_SIZE == hub._PIECE
        second.__exit__()
        assert package.constants.DOWNLOAD_CHUNK_SIZE == 10**7

    def test_nobody_there(self, hugging, monkeypatch):
        def unreachable(*_, **__):
            try:
                raise ConnectionRefusedError(111, "refused")
            except OSError as error:
                raise huggingface_hub.errors.LocalEntryNotFoundError("no connection") from error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
        refused(pinned(hugging), "the hub cannot be reached (ConnectionRefusedError: [Errno 111] refused)")

    @pytest.mark.parametrize("published", [SHA, None])
    def test_wrong_bytes_are_not_used_and_stay_where_they_are(self, hugging, published):
        weights = pinned(hugging, sha256=published)
        hugging.modes[FILE] = "wrong"
        refused(weights, "is not what", SHA[:16], "belongs to the cache of huggingface_hub: delete it")
        assert hub.cached(weights.url, weights.revision).exists()

    def test_a_changed_file_in_its_cache(self, hugging):
        weights = pinned(hugging)
        path = get(weights)
        path.resolve().write_bytes(OTHER)
        refused(weights, "as at the first download", "delete it")
        path.resolve().unlink()
        path.unlink()
        assert get(weights).read_bytes() == DATA

    def test_a_hub_that_publishes_something_else_under_the_same_commit(self, hugging):
        weights = pinned(hugging)
        get(weights)
        hugging.repositories[REPOSITORY][weights.revision] = {FILE: OTHER}
        for path in Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("*"):
            if path.is_symlink() or (path.is_file() and path.parent.name == "blobs"):
                path.unlink()
        refused(weights, "as at the first download")

    def test_an_open_revision_follows_the_branch(self, hugging):
        weights = pinned(hugging, revision=None)
        assert get(weights).read_bytes() == DATA
        hugging.commit(REPOSITORY, {FILE: OTHER})
        assert get(weights).read_bytes() == OTHER

    def test_without_the_package(self, hugging, monkeypatch):
        weights = pinned(hugging, sha256=SHA)
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        refused(weights, "pip install segcore[hub]", str(own_path(weights)))
        own_path(weights).parent.mkdir(parents=True)
        own_path(weights).write_bytes(DATA)
        assert get(weights) == own_path(weights)
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        assert get(weights) == own_path(weights)
        with pytest.raises(WeightsError, match=r"pip install segcore\[hub\].*pass their folder"):
            files()

    def test_its_variables_are_honoured(self, hugging, tmp_path):
        weights = pinned(hugging)
        output, errors = self.fetch_elsewhere(weights, "", hugging, tmp_path).communicate()
        assert Path(output.strip()).is_relative_to(tmp_path / "home" / "hub"), errors
        asked = [_lowered(request) for request in hugging.requests if REPOSITORY in request[1]]
        assert {headers["Authorization"] for _, _, headers in asked} == {"Bearer hf_other"}, hugging.requests


def _lowered(request):
    method, path, headers = request
    return method, path, {name.title(): value for name, value in headers.items()}


CONFIG = b'{"format": 1}'


def files(**changes):
    asked = {"revision": None, "token": None, "cache_dir": None, "local_files_only": False, "subfolder": None}
    return hub_files(REPOSITORY, **(asked | {"names": (FILE, "config.json")} | changes))


class TestHubFiles:
    def test_all_files_come_from_one_commit(self, hugging):
        sha = hugging.commit(REPOSITORY, {FILE: DATA, "config.json": CONFIG, "other.bin": b"x"})
        folder, commit = files()
        assert commit == sha == folder.name
        assert {path.name for path in folder.iterdir()} == {FILE, "config.json"}
        assert (folder / FILE).read_bytes() == DATA
        assert all(sha in path for method, path, _ in hugging.requests if "/resolve/" in path)
        assert len(hugging.gets("/api/")) == 1

    def test_the_branch_moves_between_the_requests(self, hugging, monkeypatch):
        first = hugging.commit(REPOSITORY, {FILE: DATA, "config.json": CONFIG})
        fetched = hub._file

        def moving(*arguments, **options):
            hugging.commit(REPOSITORY, {FILE: OTHER, "config.json": b"{}"})
            return fetched(*arguments, **options)

        monkeypatch.setattr(hub, "_file", moving)
        folder, commit = files()
        assert commit == first
        assert ((folder / FILE).read_bytes(), (folder / "config.json").read_bytes()) == (DATA, CONFIG)
        monkeypatch.undo()

    def test_a_commit_in_the_cache_asks_nobody(self, hugging):
        sha = hugging.commit(REPOSITORY, {FILE: DATA, "config.json": CONFIG})
        found = files(revision=sha)
        hugging.requests.clear()
        assert files(revision=sha) == found
        assert hugging.requests == []

    def test_a_new_commit_is_seen(self, hugging):
        hugging.commit(REPOSITORY, {FILE: DATA})
        files()
        sha = hugging.commit(REPOSITORY, {FILE: OTHER})
        folder, commit = files()
        assert (commit, (folder / FILE).read_bytes()) == (sha, OTHER)

    @pytest.mark.parametrize("how", ["local_files_only", "HF_HUB_OFFLINE", "SEGCORE_OFFLINE"])
    def test_offline(self, hugging, monkeypatch, how):
        sha = hugging.commit(REPOSITORY, {FILE: DATA, "config.json": CONFIG}, branch="v1")
        local = {"local_files_only": how == "local_files_only"}
        if how != "local_files_only":
            monkeypatch.setenv(how, "1")
        with pytest.raises(WeightsError, match=f"not in the cache, and {how} forbids"):
            files(revision="v1", **local)
        assert hugging.requests == []
        if how != "local_files_only":
            monkeypatch.delenv(how)
        found = files(revision="v1")
        assert found[1] == sha
        if how != "local_files_only":
            monkeypatch.setenv(how, "1")
        hugging.requests.clear()
        assert files(revision="v1", **local) == found
        assert hugging.requests == []

    def test_subfolder_token_and_cache(self, hugging, tmp_path):
        hugging.commit(REPOSITORY, {"a/b/" + FILE: DATA, FILE: OTHER})
        hugging.token = "hf_mine"
        folder, commit = files(subfolder="a/b", token="hf_mine", cache_dir=tmp_path / "mine")
        assert (folder / FILE).read_bytes() == DATA
        assert folder == tmp_path / "mine" / "models--owner--name" / "snapshots" / commit / "a" / "b"
        with pytest.raises(WeightsError, match="private or gated"):
            files(cache_dir=tmp_path / "other", token=False)

    @pytest.mark.parametrize("changes", [{"subfolder": "../x"}, {"subfolder": "a//b"}, {"revision": "../main"}])
    def test_names_that_lead_outside(self, hugging, changes):
        with pytest.raises(WeightsError, match="must be names inside it"):
            files(**changes)
        assert hugging.requests == []

    def test_missing(self, hugging):
        with pytest.raises(WeightsError, match="does not exist, or it is private"):
            files()
        hugging.commit(REPOSITORY, {"README.md": b"x"})
        with pytest.raises(WeightsError, match=r"revision 'main': model.safetensors, config.json are not in it"):
            files()
        with pytest.raises(WeightsError, match="no such revision"):
            files(revision="v9")
        with pytest.raises(WeightsError, match="is no repository on the hub"):
            hub_files(
                "../x", revision=None, token=None, cache_dir=None, local_files_only=True, subfolder=None, names=(FILE,)
            )

    def test_an_unreachable_hub_leaves_what_is_cached(self, hugging, monkeypatch):
        hugging.commit(REPOSITORY, {FILE: DATA, "config.json": CONFIG})
        found = files()
        monkeypatch.setattr(transfer, "STALL", 0.3)
        hugging.modes["api"] = "hang"
        with pytest.warns(UserWarning, match=f"downloaded before are used, of commit {found[1]}"):
            assert files() == found
        hugging.modes["api"] = 500
        with pytest.warns(UserWarning, match="downloaded before are used"):
            assert files() == found
        hugging.modes["api"] = None
        hugging.token = "hf_secret"
        with pytest.raises(WeightsError, match="private or gated"):
            files()

    def test_a_dead_hub_ends(self, hugging, monkeypatch):
        monkeypatch.setattr(transfer, "STALL", 0.3)
        hugging.modes["api"] = "hang"
        with pytest.raises(WeightsError, match="nothing came|Timeout"):
            files()

    @pytest.mark.parametrize("name", [FILE, "config.json"])
    @pytest.mark.parametrize("again", [False, True])
    def test_flipped_bits(self, hugging, name, again):
        hugging.commit(REPOSITORY, {FILE: DATA, "config.json": CONFIG})
        if again:
            path = (files()[0] / name).resolve()
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        else:
            hugging.modes[name] = "wrong"
        for local in (False, True):
            with pytest.raises(WeightsError, match=rf"'{name}': .* is not what the hub published.*delete it"):
                files(local_files_only=local)


class TestPush:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        (folder / FILE).write_bytes(DATA)
        (folder / "config.json").write_bytes(CONFIG)
        (folder / ".model.safetensors.x.tmp").write_bytes(b"litter")
        return folder

    def test_one_commit_that_can_be_read_back(self, hugging, folder):
        url = push_folder(folder, REPOSITORY, token="hf_mine", private=True, revision="v1", message="a message")
        ((repository, branch, message, uploaded),) = hugging.uploads
        assert (repository, branch, message) == (REPOSITORY, "v1", "a message")
        assert uploaded == {FILE: DATA, "config.json": CONFIG}
        assert url == f"{hugging.url}/{REPOSITORY}/commit/{hugging.branches[REPOSITORY, 'v1']}"
        assert "private" in json.dumps(hugging.created[0]).replace('"private": false', "")
        assert hugging.created[1] == {"branch": "v1"}
        asked = [
            _lowered(request) for request in hugging.requests if "/models/" in request[1] or "/repos/" in request[1]
        ]
        assert {headers["Authorization"] for _, _, headers in asked} == {"Bearer hf_mine"}
        assert (files(revision="v1")[0] / FILE).read_bytes() == DATA

    def test_refused(self, hugging, folder, monkeypatch):
        hugging.token = "hf_other"
        asked = {"token": "hf_mine", "private": None, "revision": None, "message": "m"}
        with pytest.raises(WeightsError, match="cannot be uploaded to 'owner/name'"):
            push_folder(folder, REPOSITORY, **asked)
        monkeypatch.setattr(transfer, "STALL", 0.3)
        hugging.token = None
        hugging.modes["api"] = "hang"
        with pytest.raises(WeightsError, match="nothing came for 0.3 seconds"):
            push_folder(folder, REPOSITORY, **asked)
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        hugging.requests.clear()
        with pytest.raises(WeightsError, match="SEGCORE_OFFLINE forbids it"):
            push_folder(folder, REPOSITORY, **asked)
        assert hugging.requests == []


class TestModels:
    """The whole way: `encoder_weights`, `push_to_hub` and `from_pretrained`."""

    @pytest.fixture
    def model(self):
        segcore.encoders["tiny"] = EncoderSpec("tiny", factory=TinyEncoder)
        segcore.decoders["tinydec"] = TinyDecoder
        yield segcore.create_model("tinydec", "tiny", classes=3).eval()
        del segcore.encoders["tiny"]
        del segcore.decoders["tinydec"]

    def test_pushed_and_pulled(self, hugging, model):
        segcore.push_to_hub(model, REPOSITORY, token="hf_mine", image_size=(64, 96))
        image = torch.rand(1, 3, 32, 32)
        commit = hugging.branches[REPOSITORY, "main"]
        for source, options in ((REPOSITORY, {}), (f"hf://{REPOSITORY}", {"revision": commit})):
            assert torch.equal(segcore.from_pretrained(source, **options)(image), model(image))
        hugging.requests.clear()
        loaded = segcore.from_pretrained(REPOSITORY, local_files_only=True)
        assert torch.equal(loaded(image), model(image))
        assert loaded.config["image_size"] == [64, 96]
        assert hugging.requests == []

    def test_a_tag_is_fetched(self, hugging, model):
        data = save(model.encoder.state_dict())
        spec = EncoderSpec("tiny", factory=TinyEncoder, weights={"own": pinned(hugging, {FILE: data})})
        encoder = segcore.create_encoder(spec, weights="own")
        assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), model.encoder.parameters(), strict=True))


def test_the_server_names_files_as_git_does():
    assert object_id(b"hello\n", 100) == "ce013625030ba8dba906f756967f9e9ca394464a"
