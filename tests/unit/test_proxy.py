"""The fault proxy of the benchmarks, between a client and a server of this test."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from streamer.bench.harness.proxy import Proxies, Proxy, Requests
from streamer.local.ports import LOOPBACK, free_ports

PATIENCE_S = 10.0
END_TXN = 26
PRODUCE = 0


class Echo:
    """A server that gives back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.got = bytearray()
        self._server = socket.create_server((LOOPBACK, 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):  # a cut may reset it
                while chunk := connection.recv(65536):
                    self.got += chunk
                    connection.sendall(chunk)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server to lead to."""
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    """A proxy that leads to `echo`."""
    with Proxies() as proxies:
        yield proxies.open(echo.port)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through the proxy."""
    with socket.create_connection((LOOPBACK, proxy.port), PATIENCE_S) as client:
        yield client


def test_it_forwards_both_ways(client: socket.socket) -> None:
    """More than a buffer's bytes come back as they went."""
    sent = bytes(range(256)) * 1000
    threading.Thread(target=client.sendall, args=(sent,)).start()
    assert receive(client, len(sent)) == sent


def test_what_a_blackhole_took_comes_later(proxy: Proxy, client: socket.socket) -> None:
    """Nothing comes back while it lasts, nor does the connection end; then all of it does."""
    proxy.blackhole()
    client.sendall(b"into the dark")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(PATIENCE_S)
    proxy.forward()
    assert receive(client, 13) == b"into the dark"


def test_slow_holds_up_each_way(proxy: Proxy, client: socket.socket) -> None:
    """An answer takes twice the delay at least."""
    proxy.slow(0.1)
    began = time.monotonic()
    client.sendall(b"slow")
    assert receive(client, 4) == b"slow"
    assert time.monotonic() - began >= 0.2


def test_cut_resets_what_is_open_and_what_comes(proxy: Proxy, client: socket.socket) -> None:
    """Both an open connection and a new one end, until it forwards again."""
    client.sendall(b"x")
    assert receive(client, 1) == b"x"
    proxy.cut()
    assert ended(client)
    with socket.create_connection((LOOPBACK, proxy.port), PATIENCE_S) as later:
        assert ended(later)
    proxy.forward()
    with socket.create_connection((LOOPBACK, proxy.port), PATIENCE_S) as later:
        later.sendall(b"again")
        assert receive(later, 5) == b"again"


@pytest.mark.parametrize("deliver", [True, False])
def test_it_cuts_at_a_request(echo: Echo, proxy: Proxy, client: socket.socket, deliver: bool) -> None:
    """Other requests pass; the one waited for ends the connection, after it got through or before, as asked."""
    proxy.cut_at(END_TXN, deliver=deliver)
    first, second = request(PRODUCE, b"a" * 100), request(END_TXN, b"commit")
    client.sendall(first)
    assert receive(client, len(first)) == first
    assert not proxy.sprung.is_set()
    client.sendall(second)
    assert ended(client)
    assert proxy.sprung.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while deliver and len(echo.got) < len(first + second) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert bytes(echo.got) == (first + second if deliver else first)


def test_an_upstream_that_is_away_ends_the_connection() -> None:
    """As a closed port does, only later."""
    (port,) = free_ports(1)
    with Proxies() as proxies, socket.create_connection((LOOPBACK, proxies.open(port).port), PATIENCE_S) as client:
        assert ended(client)


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_requests_are_found_wherever_the_stream_is_broken(step: int) -> None:
    """The kinds of requests come in order, each once, however the bytes are divided."""
    kinds = [PRODUCE, END_TXN, 3, END_TXN, 18]
    stream = b"".join(request(kind, b"x" * kind) for kind in kinds)
    requests = Requests()
    found = [kind for at in range(0, len(stream), step) for kind in requests.begun_in(stream[at : at + step])]
    assert found == kinds


def request(kind: int, body: bytes) -> bytes:
    """A Kafka request: its size, its kind, the rest."""
    return struct.pack(">ih", 2 + len(body), kind) + body


def receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes."""
    got = bytearray()
    while len(got) < size:
        chunk = connection.recv(size - len(got))
        assert chunk, "the connection ended"
        got += chunk
    return bytes(got)


def ended(connection: socket.socket) -> bool:
    """Whether the other side ended it."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
