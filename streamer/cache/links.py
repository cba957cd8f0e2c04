"""Ways to Redis: a server of which keys are asked, or a cluster, where each lies in a slot of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from redis.cluster import RedisCluster
from redis.connection import AbstractConnection
from redis.exceptions import ResponseError

from streamer.cache.clients import address_of, check, client_of, cluster_of
from streamer.config.url import RedisHosts, several_of
from streamer.core.fingerprint import KEY_BYTES
from streamer.core.stored import Vault

KEY_PREFIX: Final = b"streamer:2:"

_SILENCE: Final = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n"
_SPEECH: Final = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n"


class RedisLink(Protocol):
    """A way to Redis. Calls raise whatever the library, the server or the wire come up with."""

    address: str
    """Where the servers are, without user and password: for logs."""

    def get(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """The values of these keys."""

    def put(self, entries: list[tuple[bytes, bytes]], ttl_s: int) -> None:
        """Set these keys, for so long."""

    def hang_up(self) -> None:
        """Cut the connections; a call under way in another thread ends with an error. Raises nothing."""


def link_of(url: str, timeout_s: float, vault: Vault) -> RedisLink:
    """The way to the servers of `url`; connects to nothing yet. Raises ConfigurationError when the URL is none."""
    check(url)
    several = several_of(url)
    if several is not None and several.kind == "cluster":
        return ClusterLink(several, address_of(url), timeout_s, vault)
    return ServerLink(url, timeout_s, vault)


def prefix_of(vault: Vault) -> bytes:
    """What stands before a cache key in Redis: processes of different secrets never overwrite one another's values."""
    return KEY_PREFIX + vault.name.encode() + b":"


class ServerLink:
    """One server, or the primary that sentinels name.

    Commands are packed here: the client's own packing takes 0.3 µs a key, of a time that every record has to wait for.
    """

    def __init__(self, url: str, timeout_s: float, vault: Vault) -> None:
        self.address = address_of(url)
        self._client = client_of(url, timeout_s)
        prefix = prefix_of(vault)
        self._key_start = b"$%d\r\n%b" % (len(prefix) + KEY_BYTES, prefix)
        self._silent: bool | None = None

    def get(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """With one MGET."""
        (values,) = self._ask(_mget(keys, self._key_start))
        if isinstance(values, ResponseError):
            raise values
        found: Sequence[bytes | None] = values
        return found

    def put(self, entries: list[tuple[bytes, bytes]], ttl_s: int) -> None:
        """One SETEX a key, sent together.

        Only the last one is answered, which also tells of a server that is full or read-only: to read all answers costs
        our processor three times as much, and a script that sets all costs the server twice as much (0.3, 1.0 and 0.7
        µs a key of ours; 1.4, 1.6 and 3.4 of Redis 6.2).
        """
        command = b"*4\r\n$5\r\nSETEX\r\n%b%%b\r\n$%d\r\n%d\r\n$%%d\r\n%%b\r\n" % (
            self._key_start,
            len(str(ttl_s)),
            ttl_s,
        )
        commands = [command % (key, len(value), value) for key, value in entries]
        if self._silent is None:  # an access list or a proxy may not know the command
            self._silent = not isinstance(self._ask(_SPEECH)[0], ResponseError)
        if self._silent:
            packed, answers = b"".join([_SILENCE, *commands[:-1], _SPEECH, commands[-1]]), 2
        else:
            packed, answers = b"".join(commands), len(commands)
        for answer in self._ask(packed, answers):
            if isinstance(answer, ResponseError):
                raise answer

    def hang_up(self) -> None:
        self._silent = None  # who answers next may be another server
        with suppress(Exception):  # it may be gone already, in any way
            self._client.connection_pool.disconnect()

    def _ask(self, packed: bytes, answers: int = 1) -> list[Any]:
        """Send commands; returns their answers, a `ResponseError` where one was refused."""
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
            return [_answer(connection) for _ in range(answers)]
        finally:
            pool.release(connection)


class ClusterLink:
    """A cluster. Keys lie in many slots, which no command crosses: each is asked with one of its own, those of a server
    sent together."""

    def __init__(self, several: RedisHosts, address: str, timeout_s: float, vault: Vault) -> None:
        self.address = address
        self._several = several
        self._timeout_s = timeout_s
        self._prefix = prefix_of(vault)
        self._client: RedisCluster | None = None

    def get(self, keys: list[bytes]) -> Sequence[bytes | None]:
        commands = self._cluster().pipeline()  # type: ignore[no-untyped-call]
        for key in keys:
            commands.get(self._prefix + key)
        values: list[bytes | None] = commands.execute()
        return values

    def put(self, entries: list[tuple[bytes, bytes]], ttl_s: int) -> None:
        commands = self._cluster().pipeline()  # type: ignore[no-untyped-call]
        for key, value in entries:
            commands.execute_command("SETEX", self._prefix + key, ttl_s, value)  # setex() warns of its name
        commands.execute()

    def hang_up(self) -> None:
        """The next call asks for the cluster's layout again."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.disconnect_connection_pools()  # type: ignore[no-untyped-call]

    def _cluster(self) -> RedisCluster:
        client = self._client
        if client is None:
            client = self._client = cluster_of(self._several, self._timeout_s)
        return client


def _answer(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal


def _mget(keys: list[bytes], start: bytes) -> bytes:
    """The command, packed: keys are of one length, so that joining them is all there is to do."""
    return b"*%d\r\n$4\r\nMGET\r\n%b%b\r\n" % (len(keys) + 1, start, (b"\r\n" + start).join(keys))
