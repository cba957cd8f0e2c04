from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from streamer.errors import ConfigurationError
from streamer.telemetry.catalogue import WORKERS_READY
from streamer.telemetry.http import Server, start
from streamer.telemetry.metrics import Metrics


@dataclass
class State:
    """What the checks say."""

    live: list[str] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(state: State) -> Iterator[Server]:
    metrics = Metrics("sentiment")
    metrics.set(WORKERS_READY, 2)
    server = start("127.0.0.1:0", metrics.registry, lambda: state.live, lambda: state.ready, "sentiment")
    yield server
    server.close()


def ask(server: Server, path: str, method: str = "GET") -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(server.address, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_metrics_are_served_in_prometheus_form(server: Server) -> None:
    """/metrics shows the registry it was given."""
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert b'streamer_workers_ready{pipeline="sentiment"} 2.0' in body


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/readyz?verbose"])
def test_all_well_is_200(server: Server, path: str) -> None:
    """A good verdict is 200, with a query or without."""
    status, headers, body = ask(server, path)
    assert (status, json.loads(body)) == (200, {"ok": True, "pipeline": "sentiment", "reasons": []})
    assert headers["content-type"] == "application/json"


def test_what_is_wrong_is_503_with_its_reasons(server: Server, state: State) -> None:
    """Each path has its own verdict; a broken dependency is not a reason to be killed."""
    state.ready = ["no partition is assigned", "Redis is away"]
    status, _, body = ask(server, "/readyz")
    assert status == 503
    assert json.loads(body) == {
        "ok": False,
        "pipeline": "sentiment",
        "reasons": ["no partition is assigned", "Redis is away"],
    }
    assert ask(server, "/livez")[0] == 200
    state.live = ["the source has not polled for 31 s"]
    assert ask(server, "/livez")[0] == 503


def test_a_check_that_fails_is_500_and_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An error in a check is an error of that request alone."""

    def broken() -> list[str]:
        raise RuntimeError("canary")

    server = start("127.0.0.1:0", Metrics("p").registry, broken, list)
    try:
        status, _, body = ask(server, "/livez")
        assert status == 500
        assert "canary" not in body.decode() + caplog.text
        assert ask(server, "/readyz")[0] == 200
    finally:
        server.close()


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/nothing"])
def test_head_has_the_headers_and_no_body(server: Server, path: str) -> None:
    """HEAD is GET without the body."""
    status, headers, body = ask(server, path, "HEAD")
    assert status == ask(server, path)[0]
    assert int(headers["content-length"]) > 0 and body == b""


def test_an_unknown_path_is_404(server: Server) -> None:
    """The answer names the paths that there are, and does not repeat the one asked for."""
    status, _, body = ask(server, "/canary")
    assert status == 404
    assert b"/metrics" in body and b"canary" not in body


def test_another_method_is_refused(server: Server) -> None:
    """There is nothing to post."""
    assert ask(server, "/metrics", "POST")[0] == 501


def test_requests_are_not_logged(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither good nor bad requests write a line."""
    for path in ("/livez", "/nothing"):
        ask(server, path)
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"\x00\x01 canary\r\n\r\n")
        connection.recv(1000)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_slow_client_holds_up_nobody(server: Server) -> None:
    """While one sends nothing, others are answered, and close does not wait for it."""
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as silent:
        silent.sendall(b"GET /livez HT")
        assert ask(server, "/livez")[0] == 200
        server.close()
        assert silent.recv(1000) == b""


def test_close_ends_the_threads_and_frees_the_port() -> None:
    """After close nothing of it is left, and the port can be taken again."""
    before = set(threading.enumerate())
    registry = Metrics("p").registry
    server = start("127.0.0.1:0", registry, list, list)
    ask(server, "/livez")
    server.close()
    assert set(threading.enumerate()) <= before
    again = start(server.address, registry, list, list)
    assert again.address == server.address
    again.close()


@pytest.mark.parametrize("address", ["127.0.0.1:http", "127.0.0.1:99999", "nothing"])
def test_a_wrong_address_is_a_configuration_error(address: str) -> None:
    """The message names the field."""
    with pytest.raises(ConfigurationError, match=r"telemetry\.http"):
        start(address, Metrics("p").registry, list, list)


def test_a_port_in_use_is_a_configuration_error(server: Server) -> None:
    """The message says so and how to fix it."""
    with pytest.raises(ConfigurationError, match="choose another port"):
        start(server.address, Metrics("p").registry, list, list)


def test_it_listens_on_ipv6_too() -> None:
    """A bracketed address is an IPv6 one."""
    server = start("[::1]:0", Metrics("p").registry, list, list)
    try:
        assert server.address.startswith("[::1]:")
        assert ask(server, "/livez")[0] == 200
    finally:
        server.close()
