"""Segments that wait for the schemas of their records: they stand in the ledger, so that their partition keeps its
order, and have no outcome."""

from __future__ import annotations

from collections.abc import Callable

from streamer.core.framed import SchemaName
from streamer.core.record import MicroBatch, Segment, TopicPartition

Sealed = tuple[MicroBatch, Segment]


class Seals:
    """`unknown` gives the schemas that have to be learned before a segment is decoded."""

    def __init__(self, unknown: Callable[[Segment], list[SchemaName]]) -> None:
        self._unknown = unknown
        self._sealed: list[Sealed] = []

    @property
    def partitions(self) -> dict[TopicPartition, int]:
        """The partitions that wait, each with the offset of the first record of the segment that does."""
        found: dict[TopicPartition, int] = {}
        for _, segment in self._sealed:
            found.setdefault((segment.topic, segment.partition), segment.records[0].offset())
        return found

    def seal(self, batch: MicroBatch, segments: list[Segment]) -> tuple[list[Segment], list[SchemaName]]:
        """Put aside those that have to wait; returns the others, and the schemas that are wanted."""
        ready: list[Segment] = []
        wanted: list[SchemaName] = []
        for segment in segments:
            if unknown := self._unknown(segment):
                segment.open = len(segment.records)
                segment.events, segment.outcomes = [None] * segment.open, [None] * segment.open
                self._sealed.append((batch, segment))
                wanted += unknown
            else:
                ready.append(segment)
        return ready, wanted

    def take(self) -> list[Sealed]:
        """All that waits, which is then to be sealed again or decoded."""
        sealed, self._sealed = self._sealed, []
        return sealed

    def forget_dropped(self) -> int:
        """Forget those whose partitions left us; returns how many records they had."""
        dropped = sum(len(segment.records) for _, segment in self._sealed if segment.dropped)
        self._sealed = [one for one in self._sealed if not one[1].dropped]
        return dropped
