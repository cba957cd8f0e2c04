"""Calls on the Consumer from other threads, on their way to the thread that owns it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import Consumer

T = TypeVar("T")


class Calls:
    """A queue of calls and a bell. The owner rests on the bell; whoever has news rings it."""

    def __init__(self) -> None:
        self.closing = False
        self._calls: deque[tuple[Callable[[Consumer], Any], Future[Any]]] = deque()
        self._news = threading.Condition()
        self._rung = False

    def call(self, function: Callable[[Consumer], T]) -> Future[T]:
        """Let the owner run a function, soon; fails with RuntimeError once it closes."""
        future: Future[T] = Future()
        with self._news:
            if self.closing:
                future.set_exception(RuntimeError("the source is closed"))
            else:
                self._calls.append((function, future))
                self._news.notify()
        return future

    def ring(self) -> None:
        """End the owner's rest; one that does not rest now will not rest the next time."""
        with self._news:
            self._rung = True
            self._news.notify()

    def close(self) -> None:
        """Take no more calls; the owner rests no more."""
        with self._news:
            self.closing = True
            self._news.notify()

    # --- the owner ---------------------------------------------------------------------------------------------------

    def rest(self, timeout_s: float) -> None:
        """Wait for a call, the bell or the close."""
        with self._news:
            if not (self._calls or self._rung or self.closing):
                self._news.wait(timeout_s)
            self._rung = False

    def serve(self, consumer: Consumer) -> None:
        """Run what is queued."""
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function(consumer))
            except Exception as error:
                future.set_exception(error)

    def refuse(self) -> None:
        """Let what is still queued fail: the owner ends."""
        self.close()
        while self._calls:
            self._calls.popleft()[1].set_exception(RuntimeError("the source is closed"))
