"""The shared cache with a Redis that dies, hangs, refuses and lies: an answer in time, never an error."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer.cache.events import CacheEvent
from streamer.cache.inspect import inspect
from streamer.cache.links import prefix_of
from streamer.cache.null import NullCache
from streamer.cache.redis_cache import RedisCache
from streamer.config.load import CacheConfig
from streamer.core.pipeline.protocol import CacheAnswered, Input
from streamer.core.record import Answer
from streamer.core.results.outputs import parser_of
from streamer.core.stored import Vault
from streamer.errors import ConfigurationError
from tests.integration.redis_server import RedisServer
from tests.waiting import wait_for

TIMEOUT_S = 0.3
VAULT = Vault(b"of these tests")
PREFIX = prefix_of(VAULT)
SLACK_S = 0.5  # for a machine that is busy with other things


class User:
    """A cache with its inbox and its counts."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, vault: Vault = VAULT) -> None:
        self.inbox: queue.SimpleQueue[Input] = queue.SimpleQueue()
        self.counts: Counter[CacheEvent] = Counter()
        self._lock = threading.Lock()
        self.cache = RedisCache(url, vault, ttl_s=60, post=self.inbox.put, timeout_s=timeout_s, on_event=self._count)

    def _count(self, event: CacheEvent, keys: int) -> None:
        with self._lock:
            self.counts[event] += keys

    def look_up(self, *keys: bytes) -> tuple[list[Answer | None], float]:
        """The answers, and the seconds that they took."""
        started = time.monotonic()
        self.cache.look_up(7, list(keys))
        answered = self.inbox.get(timeout=5)
        assert isinstance(answered, CacheAnswered)
        return answered.answers, time.monotonic() - started

    def is_kept(self, key: bytes) -> bool:
        return self.look_up(key)[0] != [None]

    def store(self, *keys: bytes) -> None:
        self.cache.store([(key, Answer(b'{"a":1}', tokens=3)) for key in keys])


def new_key() -> bytes:
    return os.urandom(32)


@pytest.fixture
def users() -> Iterator[Callable[..., User]]:
    made: list[User] = []

    def make(url: str, timeout_s: float = TIMEOUT_S, vault: Vault = VAULT) -> User:
        made.append(User(url, timeout_s, vault))
        return made[-1]

    yield make
    for user in made:
        user.cache.close(1)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def assert_suspends(user: User) -> None:
    """Every look-up is a miss in time, and after a few none is asked any more."""
    for _ in range(4):
        found, seconds = user.look_up(new_key())
        assert found == [None] and seconds < TIMEOUT_S + SLACK_S
    assert not user.cache.available


def assert_suspends_and_recovers(user: User, recover: Callable[[], object]) -> None:
    """Every look-up is a miss in time; soon none is asked at all; after `recover` answers are found again."""
    assert_suspends(user)
    found, seconds = user.look_up(new_key(), new_key())
    assert found == [None, None] and seconds < 0.1
    recover()
    wait_for(lambda: user.cache.available, "look-ups again")
    key = new_key()

    def stored() -> bool:
        user.store(key)
        return user.is_kept(key)

    wait_for(stored, "the cache never worked again")


@pytest.mark.case(32)
def test_down_at_start(users: Callable[..., User]) -> None:
    """It starts without Redis, misses, and works as soon as Redis is there."""
    server = RedisServer()
    try:
        assert_suspends_and_recovers(users(server.url), server.start)
    finally:
        server.kill()


@pytest.mark.case(32)
def test_killed_and_restarted(users: Callable[..., User], server: RedisServer) -> None:
    """A Redis that dies is a miss; the script is loaded into its empty successor."""
    user, key = users(server.url), new_key()
    user.store(key)
    wait_for(lambda: user.is_kept(key), "never stored")
    server.kill()
    assert_suspends_and_recovers(user, server.start)
    assert user.counts[CacheEvent.UNAVAILABLE] > 0


def test_a_restart_between_two_look_ups_costs_nothing(users: Callable[..., User], server: RedisServer) -> None:
    """The dead connection is noticed before it is used: no failure, and the store after it works."""
    user, key = users(server.url), new_key()
    user.store(new_key())
    wait_for(lambda: user.counts[CacheEvent.STORED] == 1, "never stored")
    user.look_up(new_key())
    server.kill()
    server.start()
    user.store(key)
    wait_for(lambda: user.is_kept(key), "never stored")
    assert user.counts[CacheEvent.UNAVAILABLE] == user.counts[CacheEvent.STORE_FAILED] == 0


@pytest.mark.case(32)
def test_stopped_without_a_word(users: Callable[..., User], server: RedisServer) -> None:
    """A server that accepts and never answers (SIGSTOP) costs the time limit a few times, then nothing."""
    user = users(server.url)
    user.look_up(new_key())
    server.pause()
    try:
        assert_suspends_and_recovers(user, server.resume)
    finally:
        server.resume()


def test_a_store_that_hangs_delays_no_look_up(users: Callable[..., User], server: RedisServer) -> None:
    """Stores have their own connection: while one waits, look-ups are answered by Redis."""
    user, key = users(server.url), new_key()
    user.store(key)
    wait_for(lambda: user.is_kept(key), "never stored")
    # Writes wait, reads do not.
    server.command("CLIENT", "PAUSE", 700, "WRITE")
    user.store(new_key())
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        assert user.is_kept(key)
    assert user.counts[CacheEvent.STORED] == 1
    wait_for(lambda: user.counts[CacheEvent.STORED] == 2, "the store never ended")


@pytest.mark.case(32)
@pytest.mark.promise(6)
def test_slower_than_the_limit(users: Callable[..., User], server: RedisServer) -> None:
    """A server that takes longer than the limit for everything is bypassed, and used again when it is quick."""
    user = users(server.url)
    user.look_up(new_key())
    server.command("CLIENT", "PAUSE", 60_000, "ALL")
    assert_suspends_and_recovers(user, server.restart)


class Impostor:
    """A server on loopback that answers each read with what `reply` says, a piece at a time."""

    def __init__(self, reply: Callable[[bytes], Iterator[bytes]]) -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.connections = 0
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(0.1)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while not self._closed.is_set():
                try:
                    if not (request := connection.recv(65536)):
                        return
                    for piece in self._reply(request):
                        connection.sendall(piece)
                        if self._closed.wait(0.03):
                            return
                except TimeoutError:
                    continue
                except OSError:
                    return

    def close(self) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.case(32)
@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"*3\r\n$-1\r\n$-1\r\n$-1\r\n",
        b"*0\r\n",
        b":1\r\n",
        b"+OK\r\n",
        b"$2\r\n{}\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n$-1",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOPERM this user has no permissions\r\n",
        b"-MOVED 1 127.0.0.1:1\r\n",
        b"-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        b"-",
    ],
)
def test_a_server_that_talks_nonsense(users: Callable[..., User], reply: bytes) -> None:
    """No reply, however wrong, becomes an answer or an error: misses in time, then look-ups are suspended."""
    impostor = Impostor(lambda request: iter([reply]))
    try:
        user = users(impostor.url)
        user.store(new_key())
        assert_suspends(user)
        assert user.counts[CacheEvent.UNAVAILABLE] == 4
    finally:
        impostor.close()


def test_a_reply_too_many_answers_no_other_look_up(users: Callable[..., User]) -> None:
    """What a server sends beyond its reply is thrown away with the connection."""
    impostor = Impostor(lambda request: iter([b"*1\r\n$-1\r\n*1\r\n$5\r\nstray\r\n"]))
    try:
        user = users(impostor.url)
        for _ in range(5):
            assert user.look_up(new_key())[0] == [None]
        assert user.counts == {CacheEvent.MISS: 5}
    finally:
        impostor.close()


def test_a_connection_that_answered_wrongly_is_not_used_again(users: Callable[..., User]) -> None:
    """A reply with too many values may mean that replies are out of step: each look-up starts anew."""
    impostor = Impostor(lambda request: iter([b"*2\r\n$-1\r\n$-1\r\n"]))
    try:
        user = users(impostor.url)
        assert_suspends(user)
        assert impostor.connections == 3
    finally:
        impostor.close()


def test_a_server_that_trickles(users: Callable[..., User]) -> None:
    """Bytes that keep coming, none of them late, do not stretch the limit."""

    def drip(request: bytes) -> Iterator[bytes]:
        yield b"*1\r\n$100000\r\n"
        while True:
            yield b"x"

    impostor = Impostor(drip)
    try:
        user = users(impostor.url)
        assert_suspends(user)
        assert user.counts[CacheEvent.UNAVAILABLE] == 4
    finally:
        impostor.close()


@pytest.mark.case(32)
def test_a_wrong_password(users: Callable[..., User], caplog: pytest.LogCaptureFixture) -> None:
    """Refused is a miss; neither the right nor the wrong password reaches a log."""
    with RedisServer(password="right-canary") as server, caplog.at_level(logging.DEBUG):
        user = users(server.url.replace("right-canary", "wrong-canary"))
        assert_suspends(user)
        user.store(new_key())
        wait_for(lambda: user.counts[CacheEvent.STORE_FAILED] == 1, "the store never ended")
    assert "look-ups suspended" in caplog.text
    assert "canary" not in caplog.text + "".join(str(record.__dict__) for record in caplog.records)


def test_the_right_password(users: Callable[..., User]) -> None:
    """AUTH comes from the URL."""
    with RedisServer(password="right-canary") as server:
        user, key = users(server.url), new_key()
        user.store(key)
        wait_for(lambda: user.is_kept(key), "never stored")


@pytest.mark.parametrize("better", [["+client|reply"], []])
def test_a_user_with_no_more_rights_than_documented(
    users: Callable[..., User], server: RedisServer, better: list[str]
) -> None:
    """The rights that the module's text names are enough, with or without that to spare answers."""
    rights = ["~streamer:2:*", "+mget", "+setex", *better]
    server.command("ACL", "SETUSER", "narrow", "on", ">pw", "resetkeys", "resetpass", ">pw", "-@all", *rights)
    user, keys = users(server.url.replace("redis://", "redis://narrow:pw@")), [new_key() for _ in range(9)]
    for _ in range(2):
        user.store(*keys)
        wait_for(lambda: None not in user.look_up(*keys)[0], "never stored")
    wait_for(lambda: user.counts[CacheEvent.STORED] == 18, "stores are counted")


@pytest.mark.case(32)
def test_a_full_server_still_answers(users: Callable[..., User], server: RedisServer) -> None:
    """Out of memory suspends the stores and nothing else; they go on when there is room."""
    user, key = users(server.url), new_key()
    user.store(key)
    wait_for(lambda: user.is_kept(key), "never stored")
    control = server.client
    control.config_set("maxmemory-policy", "noeviction")
    control.config_set("maxmemory", 1)

    def refused() -> bool:
        user.store(new_key())
        return user.counts[CacheEvent.STORE_DROPPED] > 0

    wait_for(refused, "the stores were never suspended")
    assert user.counts[CacheEvent.STORE_FAILED] == 3
    assert user.is_kept(key) and user.cache.available
    control.config_set("maxmemory", 0)
    later = new_key()

    def written() -> bool:
        user.store(later)
        return user.is_kept(later)

    wait_for(written, "the stores never resumed")


@pytest.mark.case(32)
def test_a_read_only_server_still_answers(users: Callable[..., User], server: RedisServer) -> None:
    """A replica answers look-ups and refuses stores."""
    user, key = users(server.url), new_key()
    user.store(key)
    wait_for(lambda: user.is_kept(key), "never stored")
    with RedisServer() as nobody:
        nobody.kill()
        server.command("REPLICAOF", "127.0.0.1", nobody.port)
        user.store(new_key())
        wait_for(lambda: user.counts[CacheEvent.STORE_FAILED] == 1, "the store never ended")
        assert user.is_kept(key) and user.cache.available


@pytest.mark.case(54)
def test_a_failover_behind_one_address(users: Callable[..., User], tmp_path: Path) -> None:
    """After READONLY the address is asked anew: stores reach the new primary, and the old one need not end for that."""
    sockets, address = [tmp_path / "1", tmp_path / "2"], tmp_path / "redis"
    with (
        RedisServer("--unixsocket", str(sockets[0])) as before,
        RedisServer("--unixsocket", str(sockets[1])) as after,
    ):
        address.symlink_to(sockets[0])
        user, key = users(f"unix://{address}"), new_key()
        user.store(key)
        wait_for(lambda: user.is_kept(key), "never stored")
        before.command("REPLICAOF", "127.0.0.1", after.port)
        address.unlink()
        address.symlink_to(sockets[1])
        later = new_key()

        def stored() -> bool:
            user.store(later)
            return bool(after.client.exists(PREFIX + later))

        wait_for(stored, "stores never found the new primary", 30.0)


def test_why_a_server_takes_no_keys_is_in_its_own_word(server: RedisServer) -> None:
    """Which the library takes off its messages."""
    config = CacheConfig(url=server.url, key_file="none")
    assert inspect(config).unwritable == ""
    server.client.config_set("maxmemory", 1)
    server.client.config_set("maxmemory-policy", "noeviction")
    assert (inspect(config).unwritable, inspect(config).policy) == ("OOM", "noeviction")
    server.client.config_set("maxmemory", 0)
    server.command("REPLICAOF", "127.0.0.1", 1)
    assert inspect(config).unwritable == "READONLY"
    impostor = Impostor(lambda request: iter([b"-LOADING Redis is loading the dataset in memory\r\n"]))
    try:
        assert inspect(CacheConfig(url=impostor.url, key_file="none")).failure == "LOADING"
    finally:
        impostor.close()


@pytest.mark.case(33)
@pytest.mark.promise(6)
def test_garbage_is_a_miss_and_is_overwritten(users: Callable[..., User], server: RedisServer) -> None:
    """Wrong types, flipped bytes, cut and foreign values are misses; a good neighbour is a hit."""
    user, control = users(server.url, 5.0), server.client
    keys = [new_key() for _ in range(6)]
    user.store(*keys)
    wait_for(lambda: user.is_kept(keys[-1]), "never stored")
    good = control.get(PREFIX + keys[0])
    assert isinstance(good, bytes)
    control.delete(PREFIX + keys[0])
    control.lpush(PREFIX + keys[0], "a list")
    control.set(PREFIX + keys[1], good[:-1] + bytes([good[-1] ^ 1]))
    control.set(PREFIX + keys[2], good[:12])
    control.set(PREFIX + keys[3], good)
    control.set(PREFIX + keys[4], b"")
    user.counts.clear()
    found, _ = user.look_up(*keys)
    assert found == [None] * 5 + [Answer(b'{"a":1}', cached=True, tokens=3)]
    assert user.counts == {CacheEvent.HIT: 1, CacheEvent.MISS: 1, CacheEvent.REJECTED: 4}
    user.store(*keys)
    wait_for(lambda: user.look_up(*keys)[0].count(None) == 0, "the garbage was never replaced")


@pytest.mark.case(33)
def test_what_others_write_is_a_miss_and_counted(users: Callable[..., User], server: RedisServer) -> None:
    """Whoever may write to Redis, but does not know the secret, decides no answer: not with a value of a secret of
    its own, nor without one, nor with a right value of another key."""
    user, control, keys = users(server.url, 5.0), server.client, [new_key() for _ in range(4)]
    user.store(keys[3])
    wait_for(lambda: user.is_kept(keys[3]), "never stored")
    forged = Answer(b'{"label":"forged"}')
    for key, vault in zip(keys, (Vault(b"of another"), Vault(b"")), strict=False):
        control.set(PREFIX + key, vault.encode([(key, forged)])[0][1])
    replayed = control.get(PREFIX + keys[3])
    assert isinstance(replayed, bytes)
    control.set(PREFIX + keys[2], replayed)
    user.counts.clear()
    assert user.look_up(*keys)[0] == [None] * 3 + [Answer(b'{"a":1}', cached=True, tokens=3)]
    assert user.counts == {CacheEvent.HIT: 1, CacheEvent.REJECTED: 3}


def test_users_of_two_secrets_leave_one_another_alone(users: Callable[..., User], server: RedisServer) -> None:
    """Each finds its own answer under the same cache key, and neither is told of values that it can't believe."""
    vaults = (VAULT, Vault(b"of another"), Vault(b"", parser_of("count")))
    apart, key = [users(server.url, 5.0, vault) for vault in vaults], new_key()
    for number, user in enumerate(apart):
        user.cache.store([(key, Answer(b'{"n":%d}' % number))])
    for number, user in enumerate(apart):
        wait_for(lambda user=user: user.is_kept(key), "never stored")  # type: ignore[misc]
        assert user.look_up(key)[0] == [Answer(b'{"n":%d}' % number, cached=True)]
        assert user.counts[CacheEvent.REJECTED] == 0


@pytest.mark.case(33)
def test_without_a_secret_only_an_output_of_the_task_is_believed(
    users: Callable[..., User], server: RedisServer
) -> None:
    """A forged value is at least an answer: JSON of the task's form, with no more fields than that has."""
    vault = Vault(b"", parser_of("text-classification"))
    user, keys = users(server.url, 5.0, vault), [new_key() for _ in range(6)]
    outputs = [
        b'{"label":"x","score":0.5}',
        b'{"label":"x","score":0.5},"id":"someone-else","x":{}',
        b'{"label":"x","score":0.5,"id":"someone-else"}',
        b'{"label":"x","score":"0.5"}',
        b'{"label":"a","label":"x","score":0.5}',
        b"{this is not JSON",
    ]
    for key, output in zip(keys, outputs, strict=True):
        server.client.set(prefix_of(vault) + key, vault.encode([(key, Answer(output))])[0][1])
    assert user.look_up(*keys)[0] == [Answer(outputs[0], cached=True)] + [None] * 5
    assert user.counts == {CacheEvent.HIT: 1, CacheEvent.REJECTED: 5}


def test_entries_expire(users: Callable[..., User], server: RedisServer) -> None:
    """Every key has the configured time to live."""
    user, keys = users(server.url), [new_key(), new_key()]
    user.store(*keys)
    wait_for(lambda: user.is_kept(keys[1]), "never stored")
    ttls = [server.client.ttl(PREFIX + key) for key in keys]
    assert all(isinstance(ttl, int) and 0 < ttl <= 60 for ttl in ttls)


def test_the_store_queue_is_bounded(users: Callable[..., User], server: RedisServer) -> None:
    """While Redis hangs, what does not fit the queue is dropped and counted, at once."""
    user = users(server.url)
    server.pause()
    try:
        answer = Answer(b'"' + b"x" * 1_000_000 + b'"')
        started = time.monotonic()
        for _ in range(100):
            user.cache.store([(new_key(), answer)])
        assert time.monotonic() - started < SLACK_S
        assert 60 <= user.counts[CacheEvent.STORE_DROPPED] < 100
    finally:
        server.resume()


def test_close_answers_what_is_open_and_ends_its_threads(users: Callable[..., User], server: RedisServer) -> None:
    """Closing while Redis hangs answers at once, keeps the time limit and leaves no thread."""
    before = set(threading.enumerate())
    user = users(server.url, 5.0)
    user.look_up(new_key())
    server.pause()
    try:
        user.cache.look_up(8, [new_key()])
        user.store(new_key())
        started = time.monotonic()
        user.cache.close(0.5)
        assert time.monotonic() - started < 0.5 + SLACK_S
        assert user.inbox.get(timeout=1) == CacheAnswered(8, [None])
        wait_for(lambda: set(threading.enumerate()) <= before, "a thread of the cache lives on")
    finally:
        server.resume()


def test_close_writes_what_waits(users: Callable[..., User], server: RedisServer) -> None:
    """Stores before close are written, when Redis takes them."""
    user, keys = users(server.url), [new_key() for _ in range(50)]
    for key in keys:
        user.store(key)
    user.cache.close(5)
    assert server.client.exists(*[PREFIX + key for key in keys]) == 50


def test_a_url_that_is_none_is_refused_without_being_quoted() -> None:
    """The configuration error names the field and not the password."""
    for url in ("http://:canary@h/0", "redis://:canary@h:port/0"):
        with pytest.raises(ConfigurationError, match=r"cache\.url") as caught:
            RedisCache(url, VAULT, 60, lambda fact: None)
        assert "canary" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_the_null_cache_misses() -> None:
    """Without a shared cache every look-up is answered at once with misses."""
    facts: list[Input] = []
    cache = NullCache(facts.append)
    cache.store([(b"k", Answer(b"1"))])
    cache.look_up(3, [b"k", b"l"])
    cache.close(1)
    assert facts == [CacheAnswered(3, [None, None])]
