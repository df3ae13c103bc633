"""A hub on this machine: what huggingface_hub asks for, and every way in which it can fail."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
LARGE = (".safetensors", ".bin", ".ckpt")


class Hub:
    """Serves folders as models; attributes say what goes wrong.

    ``log`` holds (method, what, range) of each request, ``what`` being the file's name or
    ``"listing"``.
    """

    def __init__(self):
        self.models = {}
        self.revisions = {"main": COMMIT}
        self.log = []
        self.cut = {}  # name of a file -> the bytes after which the connection ends, each once
        self.alter = {}  # name of a file -> what is sent in its place
        self.refusal = None  # (status, headers) of every file
        self.listing_refusal = None
        self.listing_body = None
        self.ranges = True
        self.redirect = False  # large files are elsewhere, as on the real hub
        self.extra_siblings = []
        self.pace = None  # called before each chunk of a large file
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # those who went away

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def commits(self):
        """By branch, tag, and by themselves."""
        return {**{commit: commit for commit in self.revisions.values()}, **self.revisions}

    def fetched(self):
        """Names of the files of which bytes were asked for, in order."""
        return [what for method, what, _ in self.log if method == "GET" and what != "listing"]

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stop()
            thread.join()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def _handler(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer()

            def do_GET(self):
                self.answer()

            def answer(self):
                path = unquote(urlsplit(self.path).path)
                if path.startswith("/api/models/"):
                    hub.log.append((self.command, "listing", None))
                    model, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                    hub.list(self, model, revision)
                elif path.startswith("/elsewhere/"):
                    model, _, name = path.removeprefix("/elsewhere/").partition("//")
                    hub.log.append((self.command, name, self.headers.get("Range")))
                    hub.serve(self, model, "main", name, elsewhere=True)
                elif "/resolve/" not in path:  # nothing that has to do with models
                    refuse(self, 404, {})
                else:
                    model, _, rest = path[1:].partition("/resolve/")
                    commit, _, name = rest.partition("/")
                    hub.log.append((self.command, name, self.headers.get("Range")))
                    hub.serve(self, model, commit, name)

        return Handler

    def list(self, request, model, revision):
        if self.listing_refusal:
            return refuse(request, *self.listing_refusal)
        if self.listing_body is not None:
            return reply(request, self.listing_body)
        if model not in self.models:
            return refuse(request, 401, {"X-Error-Code": "RepoNotFound"})
        if revision not in self.commits():
            return refuse(request, 404, {"X-Error-Code": "RevisionNotFound"})
        folder = self.models[model]
        names = sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        )
        siblings = [describe(name, (folder / name).read_bytes()) for name in names]
        siblings += self.extra_siblings
        body = {"id": model, "sha": self.commits()[revision], "siblings": siblings}
        return reply(request, json.dumps(body).encode())

    def serve(self, request, model, commit, name, elsewhere=False):
        if self.refusal:
            return refuse(request, *self.refusal)
        path = self.models[model] / name
        commit = self.commits().get(commit)
        if commit is None or not path.is_file():
            return refuse(request, 404, {"X-Error-Code": "EntryNotFound"})
        content = path.read_bytes()
        found = describe(name, content)
        etag = found["lfs"]["sha256"] if "lfs" in found else found["blobId"]
        content = self.alter.get(name, content) if request.command == "GET" else content
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if self.redirect and name.endswith(LARGE) and not elsewhere:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content))}
            location = (
                f"{self.endpoint.replace('127.0.0.1', 'localhost')}/elsewhere/{model}//{name}"
            )
            return refuse(request, 302, {**headers, "Location": location})
        start = 0
        if self.ranges and (wanted := request.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        request.send_response(206 if "Content-Range" in headers else 200)
        headers["Content-Length"] = str(len(content) - start)
        for key, value in headers.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command == "HEAD":
            return None
        limits = self.cut.get(name, [])
        end = start + limits.pop(0) if limits else len(content)
        for first in range(start, min(end, len(content)), 4096):
            if self.pace and name.endswith(LARGE):
                self.pace()
            request.wfile.write(content[first : min(first + 4096, end)])
        if end < len(content):
            request.close_connection = True
        return None


def describe(name, content):
    """An entry of the listing."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"rfilename": name, "size": len(content), "blobId": git}
    if name.endswith(LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
    return entry


def reply(request, body):
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def refuse(request, status, headers):
    request.send_response(status)
    for key, value in {"Content-Length": "0", **headers}.items():
        request.send_header(key, value)
    request.end_headers()
