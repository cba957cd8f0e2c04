"""/metrics, /livez and /readyz over HTTP, for Prometheus and Kubernetes."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamer.errors import ConfigurationError

REQUEST_TIMEOUT_S: Final = 5.0

_log = logging.getLogger(__name__)


Check = Callable[[], list[str]]
"""Says what is not well, in sentences without secrets: anybody who reaches the port reads them. None is well."""


class Server:
    """A running server; `address` is its host:port."""

    def __init__(self, server: _HttpServer) -> None:
        host, port = server.server_address[:2]
        self.address = f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests, end the threads, free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()


def start(address: str, registry: CollectorRegistry, livez: Check, readyz: Check, pipeline: str = "") -> Server:
    """Serve on `address` (host:port; port 0 takes any) what there is to say of `pipeline`. Raises ConfigurationError
    when it can't be bound."""
    host, _, port = address.rpartition(":")

    class Handler(_Handler):
        pages = {
            "/metrics": _metrics(registry),
            "/livez": _health(pipeline, livez),
            "/readyz": _health(pipeline, readyz),
        }

    try:
        return Server(_HttpServer((host.strip("[]"), int(port)), Handler))
    except (OSError, ValueError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not host:port"
        raise ConfigurationError(
            f'telemetry.http: can\'t listen on {address}: {why}; choose another port, 0 for any, or "" for none'
        ) from None


@dataclass(frozen=True, slots=True)
class _Page:
    status: HTTPStatus
    content_type: str
    body: bytes


def _metrics(registry: CollectorRegistry) -> Callable[[str], _Page]:
    def page(accept: str) -> _Page:
        encode, content_type = choose_encoder(accept)
        return _Page(HTTPStatus.OK, content_type, encode(registry))

    return page


def _health(pipeline: str, check: Check) -> Callable[[str], _Page]:
    def page(_accept: str) -> _Page:
        reasons = check()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return _json(status, {"ok": not reasons, "pipeline": pipeline, "reasons": reasons})

    return page


def _json(status: HTTPStatus, body: Any) -> _Page:
    return _Page(status, "application/json", msgspec.json.encode(body) + b"\n")


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._open: set[Any] = set()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the base class's reverse look-up of the host's name, which may take seconds."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Cut the connections of clients that still talk."""
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    pages: dict[str, Callable[[str], _Page]]
    timeout = REQUEST_TIMEOUT_S
    server_version = "streamer"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Requests are not logged: a probe a second says nothing."""

    def _answer(self, *, with_body: bool) -> None:
        make = self.pages.get(self.path.partition("?")[0])
        try:
            page = (
                make(self.headers.get("Accept", ""))
                if make
                else _json(HTTPStatus.NOT_FOUND, {"ok": False, "reasons": [f"there are only {', '.join(self.pages)}"]})
            )
        except Exception as error:
            _log.warning("a page could not be rendered", extra={"data": {"error": type(error).__name__}})
            page = _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"ok": False, "reasons": ["the check itself failed"]})
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(page.body)
