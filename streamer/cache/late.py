"""A cache that is made on a thread of its own, while its owner goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from streamer.core.record import Answer
from streamer.ports import Cache


class LateCache:
    """Stands for the cache that `make` returns, and keeps for it what is asked before it is there.

    For a client whose import alone is a third of a driver's start. `failed` is told what `make` raises; the owner has
    to end then, for nothing is answered.
    """

    def __init__(self, make: Callable[[], Cache], failed: Callable[[Exception], object]) -> None:
        self._make = make
        self._failed = failed
        self._cache: Cache | None = None
        self._lock = threading.Lock()
        self._kept: list[Callable[[Cache], None]] = []
        self._thread = threading.Thread(target=self._run, name="cache-maker", daemon=True)
        self._thread.start()

    def look_up(self, lookup: int, keys: list[bytes]) -> None:
        """Ends in one `CacheAnswered` of the same number."""
        self._pass(lambda cache: cache.look_up(lookup, keys))

    def store(self, entries: list[tuple[bytes, Answer]]) -> None:
        """Write in the background, or drop and count."""
        self._pass(lambda cache: cache.store(entries))

    @property
    def available(self) -> bool:
        """Whether look-ups are asked of the cache now, or will be when it is there."""
        return self._cache is None or self._cache.available

    def close(self, timeout_s: float) -> None:
        """Close the cache, once it is there."""
        self._thread.join(timeout_s)
        if self._cache is not None:
            self._cache.close(timeout_s)

    def _pass(self, call: Callable[[Cache], None]) -> None:
        if self._cache is None:
            with self._lock:
                if self._cache is None:
                    self._kept.append(call)
                    return
        call(self._cache)

    def _run(self) -> None:
        try:
            cache = self._make()
        except Exception as error:
            self._failed(error)
            return
        with self._lock:
            for call in self._kept:
                call(cache)
            self._kept.clear()
            self._cache = cache
