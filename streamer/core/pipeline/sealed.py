"""Segments that wait for the schemas of their records: they stand in the ledger, so that their partition keeps its
order, and have no outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from streamer.core.events.framed import SchemaName
from streamer.core.pipeline.ledger import Partition
from streamer.core.pipeline.protocol import Finish, PauseReading
from streamer.core.record import MicroBatch, Segment, TopicPartition
from streamer.core.tally import plural
from streamer.errors import ExitCode

FULL_SHARE: Final = 0.25
"""So much of the budget may wait for schemas before no more is read of the partitions that do: others have the rest."""
PATIENCE_S: Final = 300.0
"""How long `--until-end` waits for a schema registry that gives nothing."""


@dataclass(slots=True)
class Sealed:
    """A segment that waits, and the schemas that it still waits for."""

    batch: MicroBatch
    segment: Segment
    names: set[SchemaName]


class Seals:
    """`unknown` gives the schemas that have to be learned before a segment is decoded. `records` is how many wait,
    `size_bytes` what they take, and `behind_bytes` what those take that have no need to, and stand behind them."""

    def __init__(self, unknown: Callable[[Segment], list[SchemaName]], budget_bytes: int) -> None:
        self.records = 0
        self.size_bytes = 0
        self.behind_bytes = 0
        self._unknown = unknown
        self._full_bytes = int(FULL_SHARE * budget_bytes)
        self._paused: frozenset[TopicPartition] = frozenset()
        self._unchanged = True  # since it was looked which are to be paused
        self._sealed: list[Sealed] = []
        self._since = float("-inf")  # the last that was given, or the first that had to wait
        self._asked: set[SchemaName] = set()  # and not learned yet: each is asked for once, however many wait for it

    @property
    def partitions(self) -> dict[TopicPartition, Sealed]:
        """The partitions that wait, each with the first segment that does."""
        found: dict[TopicPartition, Sealed] = {}
        for one in sorted(self._sealed, key=lambda one: one.segment.records[0].offset()):
            found.setdefault((one.segment.topic, one.segment.partition), one)
        return found

    def seal(self, batch: MicroBatch, segments: list[Segment], now: float) -> tuple[list[Segment], list[SchemaName]]:
        """Put aside those that have to wait; returns the others, and the schemas that are to be asked for."""
        ready: list[Segment] = []
        wanted: list[SchemaName] = []
        if not self._sealed:
            self._since = now
        for segment in segments:
            if unknown := self._unknown(segment):
                segment.open = len(segment.records)
                segment.events, segment.outcomes = [None] * segment.open, [None] * segment.open
                self.records += segment.open
                self.size_bytes += segment.size_bytes
                self._unchanged = False
                self._sealed.append(Sealed(batch, segment, set(unknown)))
                wanted += [name for name in unknown if name not in self._asked]
                self._asked.update(unknown)
            else:
                ready.append(segment)
                self._since = now  # others go on
        return ready, wanted

    def weigh(self, partitions: Mapping[TopicPartition, Partition]) -> None:
        """See how much has come to stand behind those that wait: it can't be settled before they are."""
        if not self._sealed and not self.behind_bytes:
            return
        waiting = {(one.segment.topic, one.segment.partition) for one in self._sealed}
        found = sum(segment.size_bytes for key in waiting for _, segment in partitions[key].segments)
        behind_bytes = found - self.size_bytes
        if behind_bytes != self.behind_bytes:
            self.behind_bytes, self._unchanged = behind_bytes, False

    def pause(self) -> PauseReading | None:
        """The partitions of which nothing more is to be read now, where that has changed."""
        if self._unchanged:
            return None
        self._unchanged = True
        before, self._paused = self._paused, frozenset()
        if self.size_bytes + self.behind_bytes > self._full_bytes:
            self._paused = frozenset((one.segment.topic, one.segment.partition) for one in self._sealed)
        return None if self._paused == before else PauseReading(self._paused)

    def take(self, learned: Iterable[SchemaName], now: float) -> list[tuple[MicroBatch, Segment]]:
        """What waited for these schemas last, which is then to be decoded, or sealed again: one that was not there may
        have to be asked for again by now."""
        self._asked.difference_update(learned)
        for one in self._sealed:
            one.names.difference_update(learned)
        taken = [(one.batch, one.segment) for one in self._sealed if not one.names]
        if taken:
            self._since, self._unchanged = now, False
            self._sealed = [one for one in self._sealed if one.names]
            self.records -= sum(len(segment.records) for _, segment in taken)
            self.size_bytes -= sum(segment.size_bytes for _, segment in taken)
        return taken

    def hopeless(self, now: float) -> Finish | None:
        """How `--until-end` ends where records wait and no schema was given for long."""
        if not self._sealed or now - self._since <= PATIENCE_S:
            return None
        places = [
            f"{topic}/{one}/{sealed.segment.records[0].offset()}" for (topic, one), sealed in self.partitions.items()
        ]
        return Finish(
            ExitCode.DEPENDENCY,
            f"the schema registry has given no schema for {now - self._since:.0f} s, for which"
            f" {plural(self.records, 'record')} had to wait, from {', '.join(places[:3])} on; `streamer doctor`"
            " says what it answers",
        )

    def forget_dropped(self) -> int:
        """Forget those whose partitions left us; returns how many records they had."""
        self._unchanged = False
        dropped = sum(len(one.segment.records) for one in self._sealed if one.segment.dropped)
        self.size_bytes -= sum(one.segment.size_bytes for one in self._sealed if one.segment.dropped)
        self._sealed = [one for one in self._sealed if not one.segment.dropped]
        self.records -= dropped
        return dropped
