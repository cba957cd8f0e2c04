"""The ledger: which records of which partition are in flight, which have outcomes, which may be settled.

Rules:
1. A partition's segments stand in offset order; only a finished prefix (a run) may be planned for settling.
2. A plan that came to nothing is taken back whole; one whose commit was unclear is cut at the committed offset.
3. A partition that leaves takes its unfinished records along; nothing of a lost one may be settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.core.pipeline.protocol import Run, Settle
from streamer.core.record import MicroBatch, Segment, TopicPartition


@dataclass(slots=True)
class Partition:
    """A partition that we own, with its segments in flight. One that is `leaving` is planned once more at most
    (`last_plan_made`), so that a slow tail can't keep its next owner waiting."""

    epoch: int
    segments: deque[tuple[MicroBatch, Segment]] = field(default_factory=deque)
    leaving: bool = False
    last_plan_made: bool = False


@dataclass(slots=True)
class Freed:
    """What settling or dropping gave back."""

    records: int = 0
    size_bytes: int = 0
    batches: list[MicroBatch] = field(default_factory=list)


def finished_until(segment: Segment) -> int:
    """How many of the segment's first records have outcomes, from the planned ones on."""
    if segment.open == 0:
        return len(segment.records)
    outcomes = segment.outcomes
    index = segment.planned
    while outcomes[index] is not None:  # ends: an open record has no outcome
        index += 1
    return index


class Ledger:
    """The partitions that we own and their records in flight."""

    def __init__(self) -> None:
        self.partitions: dict[TopicPartition, Partition] = {}

    def assign(self, epochs: dict[TopicPartition, int]) -> Freed:
        """Own these partitions from now on, with nothing in flight."""
        freed = self.drop(epochs)
        for key, epoch in epochs.items():
            self.partitions[key] = Partition(epoch)
        return freed

    def add(self, batch: MicroBatch) -> tuple[list[Segment], Freed]:
        """Take a micro-batch in; segments of partitions not owned at their epoch are dropped."""
        kept, freed = [], Freed()
        batch.unfinished = len(batch.segments)
        for segment in batch.segments:
            partition = self.partitions.get((segment.topic, segment.partition))
            if partition is None or partition.epoch != segment.epoch or partition.leaving:
                self._free(batch, segment, freed)
                segment.dropped = True
            else:
                partition.segments.append((batch, segment))
                kept.append(segment)
        return kept, freed

    def plan(self, number: int) -> Settle | None:
        """All runs finished by now, as one plan; None when there is none."""
        runs: list[Run] = []
        offsets: dict[TopicPartition, int] = {}
        epochs: dict[TopicPartition, int] = {}
        for key, partition in self.partitions.items():
            if partition.last_plan_made:
                continue
            partition.last_plan_made = partition.leaving
            for batch, segment in partition.segments:
                size = len(segment.records)
                if segment.planned == size:
                    continue
                last = finished_until(segment)
                if last > segment.planned:
                    runs.append(Run(batch, segment, segment.planned, last))
                    offsets[key] = segment.records[last - 1].offset() + 1
                    epochs[key] = partition.epoch
                    segment.planned = last
                if last < size:
                    break
        return Settle(number, runs, offsets, epochs) if runs else None

    def settled(self, plan: Settle) -> Freed:
        """The plan is durable."""
        freed = Freed()
        for run in plan.runs:
            segment = run.segment
            if run.last == len(segment.records) and not segment.dropped:
                segments = self.partitions[(segment.topic, segment.partition)].segments
                segments.popleft()
                self._free(run.batch, segment, freed)
        return freed

    def unsettled(self, plan: Settle, committed: dict[TopicPartition, int]) -> Freed:
        """The plan came to nothing, but for the records below `committed`."""
        freed = Freed()
        for run in plan.runs:
            run.segment.planned = min(run.segment.planned, run.first)
        for key, offset in committed.items():
            partition = self.partitions.get(key)
            while partition and partition.segments:
                batch, segment = partition.segments[0]
                records = segment.records
                if records[-1].offset() >= offset:
                    while records[segment.planned].offset() < offset:
                        segment.planned += 1
                    break
                partition.segments.popleft()
                self._free(batch, segment, freed)
                # One that is durable is not dropped: the source has to learn that it is settled.
                segment.dropped = finished_until(segment) < len(records)
        return freed

    def leave(self, keys: Iterable[TopicPartition]) -> Freed:
        """These partitions are about to go: drop what stands behind an unfinished record."""
        freed = Freed()
        for key in keys:
            partition = self.partitions.get(key)
            if partition is None:
                continue
            partition.leaving = True
            keep = 0
            for _, segment in partition.segments:
                keep += 1
                if finished_until(segment) < len(segment.records):
                    break
            while len(partition.segments) > keep:
                batch, segment = partition.segments.pop()
                segment.dropped = True
                self._free(batch, segment, freed)
        return freed

    def drop(self, keys: Iterable[TopicPartition]) -> Freed:
        """Forget these partitions and all that is in flight of them."""
        freed = Freed()
        for key in keys:
            partition = self.partitions.pop(key, None)
            for batch, segment in partition.segments if partition else ():
                segment.dropped = True
                self._free(batch, segment, freed)
        return freed

    def awaits_plan(self, keys: Iterable[TopicPartition]) -> bool:
        """Whether one of these leaving partitions may still be planned."""
        return any(
            partition.segments and not partition.last_plan_made
            for partition in map(self.partitions.get, keys)
            if partition is not None
        )

    @property
    def oldest(self) -> MicroBatch | None:
        """The micro-batch that has waited longest for its partition's run."""
        heads = [partition.segments[0][0] for partition in self.partitions.values() if partition.segments]
        return min(heads, key=lambda batch: batch.taken) if heads else None

    @property
    def empty(self) -> bool:
        """Whether nothing is in flight."""
        return not any(partition.segments for partition in self.partitions.values())

    @staticmethod
    def _free(batch: MicroBatch, segment: Segment, freed: Freed) -> None:
        freed.records += len(segment.records)
        freed.size_bytes += segment.size_bytes
        batch.unfinished -= 1
        if batch.unfinished == 0:
            freed.batches.append(batch)
