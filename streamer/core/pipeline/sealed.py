"""Segments that wait for the schemas of their records: they stand in the ledger, so that their partition keeps its
order, and have no outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streamer.core.framed import SchemaName
from streamer.core.record import MicroBatch, Segment, TopicPartition


@dataclass(slots=True)
class Sealed:
    """A segment that waits, and the schemas that it still waits for."""

    batch: MicroBatch
    segment: Segment
    names: set[SchemaName]


class Seals:
    """`unknown` gives the schemas that have to be learned before a segment is decoded. `records` is how many wait."""

    def __init__(self, unknown: Callable[[Segment], list[SchemaName]]) -> None:
        self.records = 0
        self._unknown = unknown
        self._sealed: list[Sealed] = []
        self._asked: set[SchemaName] = set()  # and not learned yet: each is asked for once, however many wait for it

    @property
    def partitions(self) -> dict[TopicPartition, Sealed]:
        """The partitions that wait, each with the first segment that does."""
        found: dict[TopicPartition, Sealed] = {}
        for one in sorted(self._sealed, key=lambda one: one.segment.records[0].offset()):
            found.setdefault((one.segment.topic, one.segment.partition), one)
        return found

    def seal(self, batch: MicroBatch, segments: list[Segment]) -> tuple[list[Segment], list[SchemaName]]:
        """Put aside those that have to wait; returns the others, and the schemas that are to be asked for."""
        ready: list[Segment] = []
        wanted: list[SchemaName] = []
        for segment in segments:
            if unknown := self._unknown(segment):
                segment.open = len(segment.records)
                segment.events, segment.outcomes = [None] * segment.open, [None] * segment.open
                self.records += segment.open
                self._sealed.append(Sealed(batch, segment, set(unknown)))
                wanted += [name for name in unknown if name not in self._asked]
                self._asked.update(unknown)
            else:
                ready.append(segment)
        return ready, wanted

    def take(self, learned: Iterable[SchemaName]) -> list[tuple[MicroBatch, Segment]]:
        """What waited for these schemas last, which is then to be decoded, or sealed again: one that was not there may
        have to be asked for again by now."""
        self._asked.difference_update(learned)
        for one in self._sealed:
            one.names.difference_update(learned)
        taken = [(one.batch, one.segment) for one in self._sealed if not one.names]
        if taken:
            self._sealed = [one for one in self._sealed if one.names]
            self.records -= sum(len(segment.records) for _, segment in taken)
        return taken

    def forget_dropped(self) -> int:
        """Forget those whose partitions left us; returns how many records they had."""
        dropped = sum(len(one.segment.records) for one in self._sealed if one.segment.dropped)
        self._sealed = [one for one in self._sealed if not one.segment.dropped]
        self.records -= dropped
        return dropped
