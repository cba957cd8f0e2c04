"""A cache that is made on a thread of its own, while its owner goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from streamer.core.record import Answer
from streamer.ports import Cache


class LateCache:
    """Stands for the cache that `make` returns, and keeps for it what is asked before it is there.

    For a client whose import is a fifth of a driver's start. `failed` is told what `make` raises; the owner has to end
    then, for nothing is answered.
    """

    def __init__(self, make: Callable[[], Cache], failed: Callable[[Exception], object]) -> None:
        self._make = make
        self._failed = failed
        self._made: Future[Cache] = Future()
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
        return not self._made.done() or self._made.result().available

    def close(self, timeout_s: float) -> None:
        """Close the cache, once it is there; what could not be made needs no closing."""
        self._thread.join(timeout_s)
        if self._made.done():
            self._made.result().close(timeout_s)

    def _pass(self, call: Callable[[Cache], None]) -> None:
        if self._made.done():  # by us, so that the caller gets what it raises: a future would log it and go on
            call(self._made.result())
        else:
            self._made.add_done_callback(lambda made: call(made.result()))

    def _run(self) -> None:
        try:
            self._made.set_result(self._make())
        except Exception as error:
            self._failed(error)
