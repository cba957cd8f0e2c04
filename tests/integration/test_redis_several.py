"""The shared cache behind Sentinels and in a Redis Cluster: real servers, a failover, keys that move."""

from __future__ import annotations

import os
import queue
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.connection import SSLConnection
from redis.sentinel import SentinelManagedSSLConnection

from streamer.cache.clients import client_of
from streamer.cache.events import CacheEvent
from streamer.cache.inspect import inspect
from streamer.cache.links import prefix_of
from streamer.cache.redis_cache import RedisCache
from streamer.config.load import CacheConfig
from streamer.core.pipeline.protocol import CacheAnswered, Input
from streamer.core.record import Answer
from streamer.core.stored import Vault
from streamer.errors import ConfigurationError
from streamer.local.ports import LOOPBACK, free_ports
from streamer.local.programs import find_redis_server
from tests.acceptance.certificates import make_certificates
from tests.acceptance.harness import wait_for
from tests.acceptance.tls_proxy import TlsProxy
from tests.integration.redis_server import RedisServer

VAULT = Vault(b"of these tests")
PASSWORD = "canary/@:"
ESCAPED = "canary%2F%40%3A"
SLOTS = 16_384


class User:
    """A cache with its inbox and its counts."""

    def __init__(self, url: str) -> None:
        self.inbox: queue.SimpleQueue[Input] = queue.SimpleQueue()
        self.counts: Counter[CacheEvent] = Counter()
        self.cache = RedisCache(url, VAULT, ttl_s=60, post=self.inbox.put, timeout_s=1.0, on_event=self._count)

    def _count(self, event: CacheEvent, keys: int) -> None:
        self.counts[event] += keys

    def find(self, *keys: bytes) -> list[Answer | None]:
        self.cache.look_up(7, list(keys))
        answered = self.inbox.get(timeout=10)
        assert isinstance(answered, CacheAnswered)
        return answered.answers

    def keeps(self, *keys: bytes) -> bool:
        """Store these, and look whether all are found."""
        self.cache.store([(key, Answer(b'{"a":1}', tokens=3)) for key in keys])
        until = time.monotonic() + 1
        while time.monotonic() < until:
            if None not in self.find(*keys):
                return True
            time.sleep(0.02)
        return False


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def users(closing: ExitStack) -> Iterator[Callable[[str], User]]:
    made: list[User] = []  # closed before the servers are

    def make(url: str) -> User:
        made.append(User(url))
        return made[-1]

    yield make
    for user in made:
        user.cache.close(1)


def new_keys(count: int = 40) -> list[bytes]:
    return [os.urandom(32) for _ in range(count)]


def sentinel(closing: ExitStack, folder: Path, primary: RedisServer) -> RedisServer:
    """A sentinel of its own login that watches the primary as `main`, and fails over by itself."""
    watcher = RedisServer(password="sentinels")
    file = folder / "sentinel.conf"
    file.write_text(
        f"bind {LOOPBACK}\nport {watcher.port}\nrequirepass sentinels\n"
        f"sentinel monitor main {LOOPBACK} {primary.port} 1\nsentinel auth-pass main {PASSWORD}\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 3000\n"
    )
    process = subprocess.Popen(
        [str(find_redis_server()), str(file), "--sentinel"], cwd=folder, stdout=subprocess.DEVNULL
    )
    closing.callback(process.wait)
    closing.callback(process.kill)
    return watcher


@pytest.mark.every_way
def test_a_failover_of_sentinels(
    users: Callable[[str], User], closing: ExitStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers are kept at the primary that the sentinel names, also when that is another one; the first sentinel of the
    URL may be away; no password is told."""
    primary, replica = (RedisServer("--masterauth", PASSWORD, password=PASSWORD) for _ in range(2))
    for server in (primary, replica):
        closing.enter_context(server)
    replica.command("REPLICAOF", LOOPBACK, primary.port)
    watcher = sentinel(closing, tmp_path, primary)
    (nobody,) = free_ports(1)
    hosts = f"{LOOPBACK}:{nobody},{LOOPBACK}:{watcher.port}"
    url = f"redis+sentinel://:{ESCAPED}@{hosts}/main/0?sentinel_password=sentinels"

    def knows_both() -> bool:
        try:
            found = watcher.client.sentinel_masters()["main"]  # type: ignore[call-overload]
        except OSError:
            return False
        return bool(found["num-slaves"] == 1)

    wait_for(knows_both, "the sentinel's view", 20)
    user, keys = users(url), new_keys()
    wait_for(lambda: user.keeps(*keys), "answers", 20)
    config = CacheConfig(url=url, key_file="none")
    assert (inspect(config).address, inspect(config).failure) == (f"main of {hosts}", "")
    assert primary.client.exists(prefix_of(VAULT) + keys[0])
    primary.kill()
    later = new_keys()
    wait_for(lambda: user.keeps(*later), "answers after the failover", 30)
    assert replica.client.exists(prefix_of(VAULT) + later[0])
    assert "canary" not in caplog.text and "sentinels" not in caplog.text


def cluster_server() -> RedisServer:
    """One that is not started. The cluster's own port, 10,000 further up, is none that the system gives to outgoing
    connections."""
    server = RedisServer("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", password="pw")
    server.port = next(port for port in free_ports(20) if port < 22_000)
    return server


def state_of(server: RedisServer) -> dict[str, Any]:
    """CLUSTER INFO."""
    told = server.command("CLUSTER", "INFO")
    return told if isinstance(told, dict) else dict(line.split(":") for line in told.decode().split("\r\n") if line)


def cluster(closing: ExitStack) -> list[RedisServer]:
    """Three servers with a third of the slots each."""
    servers = [cluster_server() for _ in range(3)]
    for server in servers:
        closing.enter_context(server)
    share = SLOTS // 3 + 1
    for number, server in enumerate(servers):
        server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        server.command("CLUSTER", "ADDSLOTS", *range(number * share, min((number + 1) * share, SLOTS)))
        server.command("CLUSTER", "MEET", LOOPBACK, servers[0].port)

    def agreed(server: RedisServer) -> bool:
        found = state_of(server)
        return bool(found["cluster_state"] == "ok" and found["cluster_known_nodes"] == "3")

    wait_for(lambda: all(map(agreed, servers)), "the cluster's agreement", 30)
    return servers


@pytest.mark.every_way
def test_a_cluster(users: Callable[[str], User], closing: ExitStack) -> None:
    """Keys of one look-up lie on all servers; those that move to another are found there; a user needs the rights that
    are documented; one address that answers is enough."""
    servers = cluster(closing)
    rights = ["~streamer:2:*", "+get", "+setex", "+cluster|slots", "+command"]
    for server in servers:
        server.command("ACL", "SETUSER", "narrow", "on", ">p", "-@all", *rights)
    (nobody,) = free_ports(1)
    url = f"redis+cluster://narrow:p@{LOOPBACK}:{nobody},{LOOPBACK}:{servers[1].port}"
    user, keys = users(url), new_keys()
    wait_for(lambda: user.keeps(*keys), "answers", 20)
    assert all(int(server.command("DBSIZE")) > 0 for server in servers)
    assert user.counts[CacheEvent.REJECTED] == 0
    assert user.find(keys[0], os.urandom(32))[1] is None
    key = next(key for key in new_keys(100) if int(servers[0].command("CLUSTER", "KEYSLOT", _full(key))) < SLOTS // 3)
    slot, new_owner = servers[0].command("CLUSTER", "KEYSLOT", _full(key)), servers[2].command("CLUSTER", "MYID")
    for server in (servers[2], servers[0]):
        server.command("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
    wait_for(lambda: user.keeps(key), "the key at its new server", 20)
    assert int(servers[2].command("EXISTS", _full(key))) == 1
    plain = CacheConfig(url=f"redis://:pw@{LOOPBACK}:{servers[0].port}", key_file="none")
    whole = CacheConfig(url=f"redis+cluster://:pw@{LOOPBACK}:{servers[0].port}", key_file="none")
    assert inspect(plain).cluster
    found = inspect(whole)
    assert (found.cluster, found.failure, found.denied, found.unwritable) == (False, "", (), "")


def _full(key: bytes) -> bytes:
    return prefix_of(VAULT) + key


def test_tls_to_a_cluster(users: Callable[[str], User], closing: ExitStack, tmp_path: Path) -> None:
    """Of one server, behind what adds TLS and announces itself; a certificate that nobody vouches for is refused."""
    certificates = make_certificates(tmp_path)
    server = cluster_server()
    proxy = closing.enter_context(TlsProxy(server.port, certificates))
    server.options = (*server.options, "--cluster-announce-port", str(proxy.port))
    closing.enter_context(server)
    server.command("CLUSTER", "ADDSLOTS", *range(SLOTS))
    wait_for(lambda: state_of(server)["cluster_state"] == "ok", "the cluster", 20)
    url = f"rediss+cluster://:pw@{LOOPBACK}:{proxy.port}"
    user = users(f"{url}?ssl_ca_certs={certificates.authority}")
    wait_for(lambda: user.keeps(*new_keys()), "answers", 20)
    assert users(url).find(*new_keys(1)) == [None]
    assert int(server.command("DBSIZE")) > 0


def test_tls_to_sentinels_and_to_what_they_name() -> None:
    """Both by the same certificates, each with its own login."""
    client = client_of("rediss+sentinel://u:p@a,b/main/2?sentinel_password=s&ssl_ca_certs=/ca.pem", 0.1)
    pool: Any = client.connection_pool
    options = pool.connection_kwargs
    assert pool.connection_class is SentinelManagedSSLConnection
    assert (options["username"], options["password"], options["db"]) == ("u", "p", 2)
    theirs = pool.sentinel_manager.sentinels[1].connection_pool
    assert theirs.connection_class is SSLConnection
    assert (theirs.connection_kwargs["host"], theirs.connection_kwargs["port"]) == ("b", 26379)
    assert (theirs.connection_kwargs["password"], theirs.connection_kwargs["username"]) == ("s", None)
    assert options["ssl_ca_certs"] == theirs.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize("kind", ["sentinel://127.0.0.1:1/main", "cluster://127.0.0.1:1"])
def test_nobody_there_is_a_miss(users: Callable[[str], User], kind: str) -> None:
    """And is looked at by `doctor` without an error of ours."""
    user = users(f"redis+{kind}")
    for _ in range(4):
        assert user.find(*new_keys(2)) == [None, None]
    assert not user.cache.available
    assert inspect(CacheConfig(url=f"redis+{kind}", key_file="none")).failure


@pytest.mark.parametrize("kind", ["sentinel://a/main", "cluster://a"])
def test_an_option_that_there_is_not(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cache\.url is not a Redis address"):
        RedisCache(f"redis+{kind}?no_such=1", VAULT, 60, lambda _: None)
