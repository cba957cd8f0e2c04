"""What `streamer doctor` asks of Redis: one test key that lives a second, and what the server says of itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from redis.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.sentinel import MasterNotFoundError

from streamer.cache.clients import STORE_TIMEOUT_S, address_of, client_of, cluster_of
from streamer.cache.links import KEY_PREFIX
from streamer.cache.secret import look_at
from streamer.config.load import CacheConfig
from streamer.config.url import several_of
from streamer.core.surroundings import CacheInfo, PeerInfo
from streamer.machine.peer import look_at_peer, refusal_of_socket

_KEY = KEY_PREFIX + b"doctor"
# The library takes these words off the message.
_WORDS = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    MasterNotFoundError: "NO_PRIMARY",
}
# Words that Redis has none for, by what stands in its message.
_MESSAGES = {
    "Cluster mode is not enabled": "NO_CLUSTER",
    "unknown command 'SENTINEL'": "NO_SENTINEL",
    "unknown command `SENTINEL`": "NO_SENTINEL",
    "DB index is out of range": "DATABASE",
    "without any password configured": "NO_PASSWORD",
}


def inspect(config: CacheConfig) -> CacheInfo:
    """The shared cache and the file of its key. Never raises for what Redis does or does not do."""
    problem, ends, exposed = look_at(config.key_file)
    return replace(_inspect_redis(config.url), key_problem=problem, key_ends_start=ends, key_exposed=exposed)


def _inspect_redis(url: str) -> CacheInfo:
    address, several = address_of(url), several_of(url)
    in_cluster = several is not None and several.kind == "cluster"
    try:
        client: Any = (
            cluster_of(several, STORE_TIMEOUT_S) if several and in_cluster else client_of(url, STORE_TIMEOUT_S)
        )
        client.ping()
    except (AuthenticationError, AuthorizationError) as error:
        return CacheInfo(address, failure=_word(error), login=True)
    except NoPermissionError:
        pass  # PING is not among the commands that streamer needs
    except (RedisError, RedisClusterException, OSError) as error:
        # NOAUTH comes as a plain answer where the password is missing altogether.
        login = _word(error) in ("NOAUTH", "WRONGPASS")
        peers = () if login else _peers(url)
        kind = several.kind if several else ""
        return CacheInfo(
            address, failure=_word(error), login=login, peers=peers, tls=url.startswith("rediss"), several=kind
        )
    denied, unwritable = [], ""
    attempts: dict[str, tuple[Any, ...]] = {
        "GET" if in_cluster else "MGET": (_KEY,),
        "SETEX": (_KEY, 1, b""),
    }
    for command, arguments in attempts.items():
        try:
            client.execute_command(command, *arguments)
        except NoPermissionError:
            denied.append(command)
        except (RedisError, RedisClusterException, OSError) as error:
            unwritable = _word(error) if command == "SETEX" else unwritable
    about: dict[str, Any] = {}
    with suppress(RedisError, RedisClusterException, OSError):
        about = dict(client.info())
    client.close()
    limit = about.get("maxmemory")
    return CacheInfo(
        address,
        denied=tuple(denied),
        unwritable=unwritable,
        version=str(about.get("redis_version", "")),
        policy=str(about.get("maxmemory_policy", "")),
        max_bytes=None if limit is None else int(limit),
        cluster=bool(about.get("cluster_enabled", 0)) and not in_cluster,
        sentinel=about.get("redis_mode") == "sentinel" and several is None,
    )


def _peers(url: str) -> tuple[PeerInfo, ...]:
    """Who answers at the addresses of the URL."""
    several = several_of(url)
    if several is not None:
        return tuple(look_at_peer(*place, first="Redis") for place in several.hosts)
    options = parse_url(url)  # type: ignore[no-untyped-call]
    if path := options.get("path"):
        return (PeerInfo(path, refusal=refusal_of_socket(path), speaks="Redis"),)
    place = options.get("host", "localhost"), int(options.get("port", 6379))
    peer = look_at_peer(*place, first="Redis", ca_file=str(options.get("ssl_ca_certs") or ""))
    return (replace(peer, certificate="") if options.get("ssl_cert_reqs") == "none" else peer,)


def _word(error: Exception) -> str:
    """Redis' own word for it (OOM, READONLY …), else the kind of error: messages may quote what was sent."""
    for kind, word in _WORDS.items():
        if isinstance(error, kind):
            return word
    for part, word in _MESSAGES.items():
        if part in str(error):
            return word
    first = str(error).partition(" ")[0]
    return first if isinstance(error, ResponseError) and first.isupper() else type(error).__name__
