"""A hub on loopback: the part of its API that the hub's own client uses to fetch a commit of a model."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = "acme/sentiment"
COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
TOKEN: Final = "hf_a-token-that-nobody-may-see"


class Hub:
    """Serves the files of `directory` as `REPOSITORY` at `COMMIT`. `refusal` is what it answers instead: a status and
    the hub's own header for the reason. `sha` is the commit that it claims. `silent_s` delays each answer."""

    def __init__(self, directory: Path) -> None:
        self.files = {
            file.relative_to(directory).as_posix(): file.read_bytes() for file in directory.rglob("*") if file.is_file()
        }
        self.refusal: tuple[int, str] | None = None
        self.sha = COMMIT
        self.silent_s = 0.0
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.address = ""

    @property
    def fetched(self) -> list[str]:
        """The files that were asked for, sorted."""
        return sorted(path.rpartition(f"/resolve/{COMMIT}/")[2] for kind, path in self.requests if "/resolve/" in path)

    def downloads(self, name: str) -> int:
        """How often a file's content was asked for."""
        return self.requests.count(("GET", f"/{REPOSITORY}/resolve/{COMMIT}/{name}"))


@contextmanager
def serve(directory: Path) -> Iterator[Hub]:
    """A hub that listens until the end of the block."""
    hub = Hub(directory)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append((self.command, path))
            hub.tokens.add(self.headers.get("Authorization"))
            time.sleep(hub.silent_s)
            if hub.refusal is not None:
                status, code = hub.refusal
                self._send(status, b"", body=body, **({"X-Error-Code": code} if code else {}))
                return
            if path.startswith(f"/api/models/{REPOSITORY}"):
                siblings = [{"rfilename": name} for name in hub.files]
                about: dict[str, Any] = {"id": REPOSITORY, "sha": hub.sha, "siblings": siblings}
                self._send(200, json.dumps(about).encode(), body=body)
                return
            content = hub.files.get(path.removeprefix(f"/{REPOSITORY}/resolve/{hub.sha}/"))
            if content is None:
                self._send(404, b"", body=body, **{"X-Error-Code": "EntryNotFound"})
                return
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(200, content, body=body, ETag=etag, **{"X-Repo-Commit": hub.sha})

        def _send(self, status: int, content: bytes, *, body: bool, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed has closed its connection."""

    with Server(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
