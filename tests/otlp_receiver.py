"""A real HTTP server in the place of an OTLP receiver, which misbehaves as it is told."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

OK: Final[tuple[int, dict[str, str], bytes]] = (200, {}, b"")


class OtlpReceiver:
    """A server that answers with `script`, one entry a request, then with 200; an entry may be a function instead."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, {key.lower(): one for key, one in self.headers.items()}, body))
                answer = receiver.script.pop(0) if receiver.script else OK
                if callable(answer):
                    answer = answer(self)
                if answer is None:
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@contextmanager
def otlp_receiver(tls: ssl.SSLContext | None = None) -> Iterator[OtlpReceiver]:
    """One that runs meanwhile."""
    receiver = OtlpReceiver(tls)
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
