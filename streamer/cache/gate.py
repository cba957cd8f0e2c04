"""The way to Redis: a client that gives up early, behind a circuit breaker that tells the log."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from streamer.core.circuit import Circuit, CircuitState
from streamer.core.fingerprint import KEY_BYTES
from streamer.core.stored import Vault
from streamer.errors import ConfigurationError

KEY_PREFIX: Final = b"streamer:2:"
CONNECT_TIMEOUT_S: Final = 0.2
READ_TIMEOUT_S: Final = 0.1
STORE_TIMEOUT_S: Final = 1.0

_log = logging.getLogger(__name__)


def prefix_of(vault: Vault) -> bytes:
    """What stands before a cache key in Redis: processes of different secrets never overwrite one another's values."""
    return KEY_PREFIX + vault.name.encode() + b":"


def key_start(vault: Vault) -> bytes:
    """What stands before a cache key in a packed command."""
    prefix = prefix_of(vault)
    return b"$%d\r\n%b" % (len(prefix) + KEY_BYTES, prefix)


def client_of(url: str, read_timeout_s: float) -> Redis:
    try:
        client = Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=read_timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,  # two round trips less when connecting
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # raises for an option after ? that there is not
        return client
    except (ValueError, TypeError, RedisError):
        # The library's message may quote the URL, which may hold a password.
        raise ConfigurationError(
            "cache.url is not a Redis address: write redis://host:port/db, rediss:// for TLS, "
            'unix:///path, or "" for no shared cache, and after "?" no option that its client does not know'
        ) from None


def address_of(client: Redis) -> str:
    """Where the server is, without user and password: for logs."""
    options = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def _answer(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal


class Gate:
    """A circuit with its client: tells the log when use is suspended and resumed, and by what kind of error."""

    def __init__(self, client: Redis, use: str) -> None:
        self.client = client
        self.circuit = Circuit()
        self._use = use

    def succeeded(self) -> None:
        resumed = self.circuit.state is not CircuitState.CLOSED
        self.circuit.succeeded()
        if resumed:
            _log.info("shared cache: %s resumed", self._use, extra={"data": {"address": address_of(self.client)}})

    def failed(self, error: Exception | None = None) -> None:
        before = self.circuit.state
        self.circuit.failed(time.monotonic())
        if before is CircuitState.CLOSED and self.circuit.state is CircuitState.OPEN:
            cause = "time limit passed" if error is None else type(error).__name__
            data = {"address": address_of(self.client), "error": cause}
            _log.warning("shared cache: %s suspended until it answers again", self._use, extra={"data": data})

    def ask(self, packed: bytes, answers: int = 1) -> list[Any]:
        """Send commands that the caller packed; returns their answers, a `ResponseError` where one was refused.

        The client's own packing takes 0.3 µs a key, of a time that every record has to wait for.
        """
        pool = self.client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
            return [_answer(connection) for _ in range(answers)]
        finally:
            pool.release(connection)

    def hang_up(self) -> None:
        """Cut the connection; a call under way in another thread ends with an error."""
        with suppress(Exception):  # it may be gone already, in any way
            self.client.connection_pool.disconnect()
