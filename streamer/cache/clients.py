"""From the cache's URL to clients of Redis that give up early: of one server, of sentinels, of a cluster."""

from __future__ import annotations

from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from streamer.config.url import RedisHosts, several_of
from streamer.errors import ConfigurationError

CONNECT_TIMEOUT_S: Final = 0.2
READ_TIMEOUT_S: Final = 0.1
STORE_TIMEOUT_S: Final = 1.0


def client_of(url: str, timeout_s: float) -> Redis:
    """A client of one server, or of the primary that sentinels name; connects to nothing yet. Raises
    ConfigurationError when the URL is none."""
    several = several_of(url)
    if several is None:
        return _of_one(url, timeout_s)
    options = _options(several, timeout_s)
    # Sentinels have a login of their own, and take part in the same TLS.
    theirs = {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinel = Sentinel(several.hosts, sentinel_kwargs={**_limits(timeout_s), **theirs, **several.login})  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(several.name, **options)  # type: ignore[no-untyped-call]
    return client


def cluster_of(several: RedisHosts, timeout_s: float) -> RedisCluster:
    """A client of a cluster, which asks for its layout at once. Raises what the library does, too."""
    nodes = [ClusterNode(host, port) for host, port in several.hosts]  # type: ignore[no-untyped-call]
    # A second attempt follows what a server says of a key that has moved.
    options = {**_options(several, timeout_s), "retry": Retry(NoBackoff(), 1)}
    return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)


def check(url: str) -> None:
    """Raises ConfigurationError when the URL is none, or has an option that its client does not know."""
    several = several_of(url)
    _of_one(url if several is None else several.one, READ_TIMEOUT_S)


def address_of(url: str) -> str:
    """Where the servers are, without user and password: for logs."""
    if (several := several_of(url)) is not None:
        hosts = ",".join(f"{host}:{port}" for host, port in several.hosts)
        return f"{several.name} of {hosts}" if several.name else hosts
    options = parse_url(url)  # type: ignore[no-untyped-call]
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def _limits(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,  # two round trips less when connecting
    }


def _of_one(url: str, timeout_s: float) -> Redis:
    try:
        client = Redis.from_url(url, **_limits(timeout_s))
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # raises for an option after ? that there is not
        return client
    except (ValueError, TypeError, RedisError):
        # The library's message may quote the URL, which may hold a password.
        raise ConfigurationError(
            "cache.url is not a Redis address: write redis://host:port/db, rediss:// for TLS, "
            'unix:///path, redis+sentinel://host:port/name, redis+cluster://host:port, or "" for no shared cache, and'
            ' after "?" no option that its client does not know'
        ) from None


def _options(several: RedisHosts, timeout_s: float) -> dict[str, Any]:
    """What the URL says besides the hosts, as the clients' arguments."""
    _of_one(several.one, timeout_s)
    given = {**_limits(timeout_s), **parse_url(several.one)}  # type: ignore[no-untyped-call]
    options = {name: value for name, value in given.items() if name not in ("host", "port", "connection_class")}
    return {**options, "ssl": True} if several.one.startswith("rediss") else options
