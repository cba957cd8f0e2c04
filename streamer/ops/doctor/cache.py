"""Rules on the shared cache. Nothing that Redis does keeps a pipeline from running; a wrong key file that is
named does."""

from __future__ import annotations

from collections.abc import Iterator

from streamer.core.surroundings import CacheInfo
from streamer.ops.doctor.finding import Finding, error, warning
from streamer.ops.doctor.peers import Expected, explain

_EXPECTED = {
    tls: Expected(
        "Redis",
        tls,
        "cache.url",
        with_tls="write rediss:// in place of redis:// in cache.url",
        without_tls="write redis:// in place of rediss:// in cache.url",
        trust="name the file of its CA in cache.url, after ?ssl_ca_certs=" if tls else "",
    )
    for tls in (False, True)
}
_OLDEST = (6, 2)
_NOTHING_SHARED = "every look-up is a miss"
_MISTAKEN = {
    "NO_CLUSTER": ("it is a Redis, but no cluster", "write redis://HOST:PORT/DATABASE as cache.url"),
    "NO_SENTINEL": (
        "it is a Redis, but no sentinel",
        "write redis://HOST:PORT/DATABASE as cache.url, or the sentinels' own addresses (port 26379 by default)",
    ),
    "NO_PRIMARY": (
        "the sentinels know no primary of that name, or it is down",
        "correct NAME in cache.url: redis-cli -p 26379 SENTINEL masters tells the names",
    ),
    "DATABASE": (
        "it has no database of that number",
        "name one from 0 to 15 in cache.url, or raise `databases` in Redis' configuration",
    ),
}
_WHY = {
    "OOM": (
        "it is full, and its maxmemory-policy removes nothing",
        "CONFIG SET maxmemory-policy allkeys-lru; raise maxmemory if answers then disappear too soon",
    ),
    "READONLY": ("it is a replica", "name the primary in cache.url, or an address that follows it at a failover"),
    "MASTERDOWN": (
        "it is a replica that has lost its primary",
        "name the primary in cache.url, or an address that follows it at a failover",
    ),
    "MISCONF": (
        "it could not save its data to disk",
        "free the disk (Redis' log says what failed), or CONFIG SET stop-writes-on-bgsave-error no",
    ),
    "NOREPLICAS": (
        "it has fewer replicas than min-replicas-to-write",
        "start its replicas, or lower min-replicas-to-write",
    ),
}


def judge(cache: CacheInfo) -> Iterator[Finding]:
    """What is wrong with the shared cache."""
    if cache.key_problem:
        what, _, fix = cache.key_problem.rpartition("; ")
        what = what.removeprefix("cache.key_file: ")
        if cache.key_ends_start:
            yield error("cache.key", "cache.key_file", what, fix)
        else:
            yield warning("cache.key", "cache.key_file", f"{what}: answers are not shared", fix)
    if cache.key_exposed:
        yield warning(
            "cache.key_exposed",
            "cache.key_file",
            "every user of this machine may read it: whoever knows it can write answers that are trusted",
            "chmod 600 FILE",
        )
    where = f"Redis at {cache.address}"
    if cache.login and cache.failure == "NO_PASSWORD":
        yield warning(
            "cache.login",
            where,
            f"cache.url has a password, and it asks for none: {_NOTHING_SHARED}",
            "leave user and password out of cache.url, or set a password there",
        )
        return
    if cache.login:
        yield warning(
            "cache.login",
            where,
            f"it refuses the login ({cache.failure}): {_NOTHING_SHARED}",
            "correct user and password in cache.url, or name a file that holds the URL as cache.url_file",
        )
        return
    if cache.failure == "LOADING":
        yield warning(
            "cache.loading",
            where,
            f"it is loading its data: {_NOTHING_SHARED} until it has",
            "wait; look-ups and stores resume by themselves",
        )
        return
    if cache.failure:
        yield warning("cache.unreachable", where, *_unreachable(cache))
        return
    if cache.sentinel:
        yield warning(
            "cache.sentinel",
            where,
            f"it is a sentinel, which keeps no keys: {_NOTHING_SHARED}",
            "write redis+sentinel://HOST:PORT,HOST:PORT/NAME/DATABASE as cache.url",
        )
        return
    if cache.cluster:
        yield warning(
            "cache.cluster",
            where,
            f"it is a Redis Cluster, where the keys of a look-up lie in many slots: {_NOTHING_SHARED}",
            "write redis+cluster://HOST:PORT,HOST:PORT as cache.url, or give streamer a Redis of its own",
        )
    if cache.denied:
        yield warning(
            "cache.rights",
            where,
            f"its user may not use {', '.join(cache.denied)}",
            "ACL SETUSER NAME ~streamer:2:* +mget +setex +client|reply"
            " (in a cluster +get +setex +cluster|slots +command)",
        )
    if cache.unwritable:
        what, fix = _unwritable(cache)
        yield warning(
            "cache.unwritable", where, f"it accepts no keys ({cache.unwritable}): {what}; answers are not shared", fix
        )
    if cache.max_bytes and cache.policy == "noeviction":
        yield warning(
            "cache.eviction",
            where,
            "maxmemory-policy is noeviction: once it is full, it takes no new answers",
            "CONFIG SET maxmemory-policy allkeys-lru",
        )
    if cache.max_bytes == 0:
        yield warning(
            "cache.unbounded",
            where,
            "it has no maxmemory: it grows until the kernel kills it",
            "CONFIG SET maxmemory 1gb, and maxmemory-policy allkeys-lru",
        )
    version = tuple(int(part) for part in cache.version.split(".")[:2] if part.isdigit())
    if version and version < _OLDEST:
        yield warning("cache.old", where, f"it is Redis {cache.version}", "upgrade it to 6.2 or later")


def _unreachable(cache: CacheInfo) -> tuple[str, str]:
    """Why it can't be asked, and what to do about it."""
    explained = explain(cache.peers, _EXPECTED[cache.tls])
    if cache.failure in _MISTAKEN and any(peer.speaks == "Redis" for peer in cache.peers):
        explained = _MISTAKEN[cache.failure]
    what, fix = explained or (f"it does not answer ({cache.failure})", "start it, or correct cache.url")
    return f"{what}: {_NOTHING_SHARED} until that is fixed", f'{fix}, or set it to "" to keep answers only in memory'


def _unwritable(cache: CacheInfo) -> tuple[str, str]:
    """Why a Redis that answers takes no keys, and what to do about it."""
    if cache.unwritable == "OOM" and cache.policy.startswith("allkeys"):
        return "its maxmemory is too small to hold any", "raise maxmemory"
    if cache.unwritable == "OOM" and cache.policy.startswith("volatile"):
        return (
            "it is full of keys without a time to live, which its maxmemory-policy keeps",
            "give streamer a Redis of its own, raise maxmemory, or CONFIG SET maxmemory-policy allkeys-lru",
        )
    return _WHY.get(cache.unwritable, ("it refuses them", "look at Redis' log"))
