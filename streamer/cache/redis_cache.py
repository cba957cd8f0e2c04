"""The shared cache: Redis, asked with one MGET a look-up and written with one packet of SETs a store.

Whatever Redis does, an answer comes within the time limit and nothing is raised: an outage is a miss. Look-ups and
stores have a thread, a connection and a circuit breaker each, so that a slow store delays no look-up and a read-only
or full server still answers. While look-ups are suspended a probe of ours asks in the background: no micro-batch
waits to find out whether Redis is back.

A Redis user needs the commands MGET and SETEX on the keys `streamer:2:*`, and better CLIENT REPLY too, which spares
answers. In a Redis Cluster each key has a GET of its own, and the user needs GET, SETEX, CLUSTER SLOTS and COMMAND.
"""

from __future__ import annotations

import time

from streamer.cache.clients import READ_TIMEOUT_S, STORE_TIMEOUT_S
from streamer.cache.events import OnEvent, ignore
from streamer.cache.links import link_of
from streamer.cache.look_ups import LookUps
from streamer.cache.stores import Stores
from streamer.core.circuit import CircuitState
from streamer.core.record import Answer
from streamer.core.stored import Vault
from streamer.ports import Post


class RedisCache:
    """The answers of before, shared through the Redis at `url` (in any of its forms: `config.url`) for `ttl_s` seconds
    with all who have the same `vault`.

    A look-up is answered within `timeout_s`, connecting included. Raises ConfigurationError when the URL is none.
    """

    def __init__(
        self,
        url: str,
        vault: Vault,
        ttl_s: int,
        post: Post,
        timeout_s: float = 0.3,
        on_event: OnEvent = ignore,
    ) -> None:
        self._look_ups = LookUps(link_of(url, READ_TIMEOUT_S, vault), vault, post, timeout_s, on_event)
        self._stores = Stores(link_of(url, STORE_TIMEOUT_S, vault), vault, ttl_s, on_event)

    def look_up(self, lookup: int, keys: list[bytes]) -> None:
        """Ends in one `CacheAnswered` of the same number."""
        self._look_ups.add(lookup, keys)

    def store(self, entries: list[tuple[bytes, Answer]]) -> None:
        """Write in the background, or drop and count."""
        self._stores.add(entries)

    @property
    def available(self) -> bool:
        """Whether look-ups are asked of Redis now, rather than answered as misses."""
        return self._look_ups.circuit.state is CircuitState.CLOSED

    def close(self, timeout_s: float) -> None:
        """Answer what is being looked up as misses, write what waits for at most `timeout_s`, drop the rest."""
        deadline = time.monotonic() + timeout_s
        self._look_ups.close()
        self._stores.close(deadline)
