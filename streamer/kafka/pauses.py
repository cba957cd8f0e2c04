"""Which of our partitions are paused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.record import TopicPartition


class Pauses:
    """On the source thread. `owned` has the partitions that are ours, and changes with them."""

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
