"""A server on this machine that stands in for the web and for the Hugging Face Hub, and misbehaves on request.

Files are put into `files` under their path, or into a repository with `commit`. `modes` says how a path is answered:

    404, 401, 403, 500  that status, always
    "flaky"             500 once, then well
    "hang"              the connection is taken and nothing comes
    "mute"              the status line and then nothing
    "drip"              one byte at a time, for ever
    "slow"              in pieces with pauses
    "break"             half of what is left, then the connection is closed
    "short"             half of it under a header that promises half
    "long"              more than was published, under a header that says so
    "endless"           more and more in chunks, without a length
    "wrong"             other bytes of the right length
    "no-range"          the whole file whatever was asked for
    "bare"              without an entity tag
    "bad-range"         a part that begins elsewhere
    "moved"             another entity tag each time, but the part that was asked for
    "redirect:URL"      a redirect
"""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

PAUSE = 0.05


class Server(ThreadingHTTPServer):
    """Runs in a thread from construction to `stop`.

    Attributes:
        requests: (method, path, headers) of everything that was asked.
        repositories: files by name by commit by repository.
        branches: commit by (repository, branch).
        token: what every request to the hub must carry, None for no check.
        storage: another server to which the hub redirects for large files.
        uploads: what was pushed: (repository, branch, summary, files).
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.modes, self.counts = {}, {}, {}
        self.repositories, self.branches = {}, {}
        self.requests, self.uploads, self.created = [], [], []
        self.token = self.storage = None
        self.large = 100  # bytes from which a file is kept as large
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request, client_address):
        """Clients leave early here, on purpose."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self):
        self.closing.set()
        self.shutdown()
        self.server_close()

    def put(self, path, data, mode=None):
        """Serve a file and return its address."""
        self.files[path], self.modes[path] = data, mode
        return f"{self.url}{path}"

    def commit(self, repository, files, branch="main"):
        """Add a commit with these files, by name, and return its 40 digits."""
        text = repr((repository, sorted(files.items()), len(self.branches), len(self.repositories.get(repository, ()))))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.repositories.setdefault(repository, {})[sha] = dict(files)
        self.branches[repository, branch] = sha
        return sha

    def gets(self, part="", method="GET"):
        """Return the headers of the requests whose path contains a text."""
        return [headers for kind, path, headers in self.requests if kind == method and part in path]


def object_id(data, large):
    if len(data) >= large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, self.path, dict(self.headers.items())))
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length) if length else b""
        if path in self.server.files:
            return self.file(self.server.files[path], self.mode_of(path))
        token = self.server.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            return self.status(401, {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/"):
            return self.api(path.split("/")[2:])
        if "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            return self.resolve(repository, *rest.split("/", 1))
        return self.status(404)

    def mode_of(self, path):
        mode = self.server.modes.get(path)
        count = self.server.counts[path] = self.server.counts.get(path, 0) + 1
        if mode == "flaky":
            return 500 if count == 1 else None
        return mode

    def status(self, code, headers=(), body=b""):
        self.send_response(code)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def api(self, parts):
        if self.server.modes.get("api") == "hang":
            self.server.closing.wait()
            self.close_connection = True
            return None
        if isinstance(self.server.modes.get("api"), int):
            return self.status(self.server.modes["api"])
        if parts[0] == "repos":
            self.server.created.append(json.loads(self.body))
            facts = self.server.created[-1]
            repository = f"{facts.get('organization', 'owner')}/{facts['name']}"
            url = f"{self.server.url}/{repository}"
            if repository not in self.server.repositories:
                self.server.commit(repository, {})
            return self.status(200, {}, json.dumps({"url": url}).encode())
        if parts[0] == "validate-yaml":
            return self.status(200, {}, b'{"errors": [], "warnings": []}')
        if parts[0] != "models":
            return self.status(404)
        repository, verb = "/".join(parts[1:3]), (parts[3:] or ["revision"])[0]
        revision = "/".join(parts[4:]) or "main"
        if verb == "revision":
            return self.facts(repository, revision)
        if verb == "branch":
            self.server.created.append({"branch": revision})
            self.server.commit(repository, {}, revision)
            return self.status(200)
        if verb == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(self.body)["files"]
            ]
            return self.status(200, {}, json.dumps({"files": files}).encode())
        if verb == "commit":
            lines = [json.loads(line) for line in self.body.splitlines()]
            files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines[1:]}
            self.server.uploads.append((repository, revision, lines[0]["value"]["summary"], files))
            sha = self.server.commit(repository, files, revision)
            facts = {"commitUrl": f"{self.server.url}/{repository}/commit/{sha}", "commitOid": sha, "success": True}
            return self.status(200, {}, json.dumps(facts).encode())
        return self.status(404)

    def look_up(self, repository, revision):
        """Return commit and files, or the code of an error."""
        commits = self.server.repositories.get(repository)
        if commits is None:
            return None, "RepoNotFound"
        sha = self.server.branches.get((repository, revision), revision)
        return (sha, commits[sha]) if sha in commits else (None, "RevisionNotFound")

    def facts(self, repository, revision):
        sha, files = self.look_up(repository, revision)
        if sha is None:
            return self.status(404, {"X-Error-Code": files})
        siblings = []
        for name, data in files.items():
            entry = {"rfilename": name, "size": len(data), "blobId": object_id(data, len(data) + 1)}
            if len(data) >= self.server.large:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        facts = {
            "id": repository,
            "modelId": repository,
            "sha": sha,
            "siblings": siblings,
            "private": False,
            "tags": [],
        }
        return self.status(200, {"Content-Type": "application/json"}, json.dumps(facts).encode())

    def resolve(self, repository, revision, name):
        sha, files = self.look_up(repository, revision)
        if sha is None:
            return self.status(404, {"X-Error-Code": files})
        headers = {"X-Repo-Commit": sha}
        if name not in files:
            return self.status(404, headers | {"X-Error-Code": "EntryNotFound"})
        data = files[name]
        headers |= {"X-Linked-Etag": f'"{object_id(data, self.server.large)}"', "X-Linked-Size": str(len(data))}
        if self.server.storage and len(data) >= self.server.large:
            url = self.server.storage.put(f"/storage/{object_id(data, 0)}", data)
            return self.status(302, headers | {"Location": url})
        if self.command == "HEAD":
            mode = self.server.modes.get("head:" + name)
            if mode is None:
                etag = f'"{object_id(data, self.server.large)}"'
                self.send_response(200)
                for key, value in (headers | {"ETag": etag, "Content-Length": str(len(data))}).items():
                    self.send_header(key, value)
                return self.end_headers()
            return self.file(data, mode, headers)
        return self.file(data, self.mode_of(name), headers)

    def file(self, data, mode, headers=()):
        if isinstance(mode, int):
            return self.status(mode)
        if mode == "hang":
            self.server.closing.wait()
            self.close_connection = True
            return None
        if mode and mode.startswith("redirect:"):
            return self.status(302, {"Location": mode.removeprefix("redirect:")})
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if mode == "moved":
            etag = f'"{time.monotonic_ns()}"'
        start, code = 0, 200
        asked = self.headers.get("Range")
        if asked and mode != "no-range" and (self.headers.get("If-Range") in {None, etag} or mode == "moved"):
            start, code = int(asked.removeprefix("bytes=").split("-")[0]), 206
            if start >= len(data):
                return self.status(416, {"Content-Range": f"bytes */{len(data)}"})
        whole = len(data)
        if mode == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if mode == "long":
            data += b"more"
        if mode == "short":
            data = data[: whole // 2]
        data = data[start:]
        self.send_response(code)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if code == 206:
            first = start + 1 if mode == "bad-range" else start
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        if mode != "bare":
            self.send_header("ETag", etag)
        if mode == "endless":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.body_of(data, mode)
        return None

    def body_of(self, data, mode):
        if mode == "break":
            self.wfile.write(data[: max(1, len(data) // 2)])
            self.close_connection = True
        elif mode in {"drip", "mute"}:
            position = 0
            while not self.server.closing.wait(PAUSE):
                if mode == "drip" and position < len(data) - 1:
                    self.wfile.write(data[position : position + 1])
                    self.wfile.flush()
                    position += 1
            self.close_connection = True
        elif mode == "slow":
            step = max(1, len(data) // 10)
            for position in range(0, len(data), step):
                self.wfile.write(data[position : position + step])
                self.wfile.flush()
                self.server.closing.wait(PAUSE)
        elif mode == "endless":
            piece = data[:4096]
            while not self.server.closing.is_set():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        else:
            self.wfile.write(data)
