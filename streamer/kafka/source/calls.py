"""Calls on the Consumer from other threads, on their way to the thread that owns it; and what is paused."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Set
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.record import TopicPartition

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


class Pauses:
    """Which of our partitions are paused. On the source thread. `owned` has the partitions that are ours, and changes
    with them."""

    def __init__(self, owned: Mapping[TopicPartition, int]) -> None:
        self.now: frozenset[TopicPartition] = frozenset()
        self._owned = owned

    @property
    def of_all(self) -> bool:
        """Whether everything is paused that we have."""
        return bool(self._owned) and self._owned.keys() <= self.now

    def only(self, consumer: Consumer, wanted: Set[TopicPartition]) -> None:
        """Let exactly these of our partitions be paused."""
        if wanted == self.now:
            return
        paused = self.now & self._owned.keys()
        if resume := paused - wanted:
            consumer.resume([KafkaPartition(*key) for key in resume])
        if pause := wanted - paused:
            consumer.pause([KafkaPartition(*key) for key in pause])
        self.now = frozenset(wanted)

    def assigned(self, consumer: Consumer, keys: Collection[TopicPartition], *, pause: bool) -> None:
        """These have become ours. Said either way: the client keeps "paused" over a loss and a new assignment
        (measured)."""
        if keys:
            (consumer.pause if pause else consumer.resume)([KafkaPartition(*key) for key in keys])
            self.now = self.now.union(keys) if pause else self.now.difference(keys)

    def forget(self) -> None:
        """The client is a new one."""
        self.now = frozenset()
