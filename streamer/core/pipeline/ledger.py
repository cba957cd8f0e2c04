"""The ledger: which records of which partition are in flight, which have outcomes, which may be settled.

Rules:
1. A partition's segments stand in offset order; only a finished prefix (a run) may be planned for settling.
2. A plan that was rolled back is taken back whole; one whose commit was unclear is cut at the committed offset.
   Where the brokers refuse a record for good, its partition is blocked: what stands before that record is planned as
   ever, the record itself is kept for probes, and all behind it is dropped, so that it takes no budget.
3. A partition that leaves takes its unfinished records along; nothing of a lost one may be settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.core.pipeline.plan_size import Cut
from streamer.core.pipeline.protocol import Run, Settle
from streamer.core.pipeline.refusal import Refusal, Refused
from streamer.core.record import MicroBatch, Record, Segment, TopicPartition

PROBE_S = 2.0
PROBE_MAX_S = 20.0


@dataclass(slots=True)
class Block:
    """Why a partition can't go on at `offset`, since when, and when the record there is tried again (seconds of a
    monotonic clock)."""

    offset: int
    refusal: Refusal
    since: float
    probe_at: float
    pause_s: float = PROBE_S


@dataclass(slots=True)
class Partition:
    """A partition that we own, with its segments in flight. One that is `leaving` is planned once more at most
    (`last_plan_made`), so that a slow tail can't keep its next owner waiting."""

    epoch: int
    segments: deque[tuple[MicroBatch, Segment]] = field(default_factory=deque)
    leaving: bool = False
    last_plan_made: bool = False
    block: Block | None = None

    @property
    def first(self) -> Record | None:
        """The first record that is not settled."""
        for _, segment in self.segments:
            return segment.records[min(segment.planned, len(segment.records) - 1)]
        return None


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
            if partition is None or partition.epoch != segment.epoch or partition.leaving or partition.block:
                self._free(batch, segment, freed)
                segment.dropped = True
            else:
                partition.segments.append((batch, segment))
                kept.append(segment)
        return kept, freed

    def plan(self, number: int, cut: Cut | None = None) -> Settle | None:
        """All runs finished by now, as far as `cut` allows, as one plan; None when there is none."""
        cut = cut or Cut()
        trimmed, only = not cut.open, cut.until
        runs: list[Run] = []
        offsets: dict[TopicPartition, int] = {}
        epochs: dict[TopicPartition, int] = {}
        for key, partition in self.partitions.items():
            if partition.last_plan_made or (only is not None and key not in only):
                continue
            partition.last_plan_made = partition.leaving
            for batch, segment in partition.segments:
                size = len(segment.records)
                if segment.planned == size:
                    continue
                if partition.block and not cut.probe and segment is partition.segments[-1][1]:
                    break
                last = finished_until(segment)
                if trimmed:
                    last = cut.last(key, segment, last)
                if last > segment.planned:
                    runs.append(Run(batch, segment, segment.planned, last))
                    offsets[key] = segment.records[last - 1].offset() + 1
                    epochs[key] = partition.epoch
                    segment.planned = last
                if last < size:
                    break
            if cut.spent:
                break
        if cut.spent:  # the others' turn comes first the next time
            for key in offsets:
                self.partitions[key] = self.partitions.pop(key)
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
        """The plan was rolled back, but for the records below `committed`."""
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

    def block(self, key: TopicPartition, offset: int, refusal: Refusal, now: float) -> Freed:
        """The brokers don't take the outcome at `offset`, which no plan under way holds. See rule 2."""
        freed, partition = Freed(), self.partitions.get(key)
        if partition is None or not partition.segments or partition.segments[-1][1].records[-1].offset() < offset:
            return freed  # it went, or was durable after all
        if (before := partition.block) and offset >= before.offset:
            pause_s = min(2 * before.pause_s, PROBE_MAX_S)
            partition.block = Block(before.offset, refusal, before.since, now + pause_s, pause_s)
            return freed
        # Where an offset is refused, a probe would write its outcome once more.
        probe_at = float("inf") if refusal.kind is Refused.COMMIT else now + PROBE_S
        partition.block = Block(offset, refusal, now, probe_at)
        segments, partition.segments = partition.segments, deque()
        found = False
        for batch, segment in segments:
            if segment.records[-1].offset() < offset:
                partition.segments.append((batch, segment))
                continue
            if not found:
                found = True
                at = segment.planned
                while segment.records[at].offset() < offset:
                    at += 1
                for part in (segment.part(segment.planned, at), segment.part(at, at + 1)):
                    if part.records:
                        partition.segments.append((batch, part))
                        batch.unfinished += 1
            segment.dropped = True
            self._free(batch, segment, freed)
        return freed

    def due(self, now: float) -> TopicPartition | None:
        """A blocked partition whose refused record stands first by now, and is to be tried again."""
        for key, partition in self.partitions.items():
            if partition.block and partition.block.probe_at <= now and len(partition.segments) == 1:
                return key
        return None

    @property
    def blocks(self) -> dict[TopicPartition, Block]:
        """The partitions whose outcomes the brokers don't take."""
        return {key: partition.block for key, partition in self.partitions.items() if partition.block}

    def leave(self, keys: Iterable[TopicPartition]) -> Freed:
        """These partitions are about to go: drop what stands behind an unfinished record."""
        freed = Freed()
        for key in keys:
            partition = self.partitions.get(key)
            if partition is None:
                continue
            partition.leaving = True
            if partition.block and partition.segments:
                self._drop_last(partition, freed)
            keep = 0
            for _, segment in partition.segments:
                keep += 1
                if finished_until(segment) < len(segment.records):
                    break
            while len(partition.segments) > keep:
                self._drop_last(partition, freed)
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

    def _drop_last(self, partition: Partition, freed: Freed) -> None:
        batch, segment = partition.segments.pop()
        segment.dropped = True
        self._free(batch, segment, freed)

    @staticmethod
    def _free(batch: MicroBatch, segment: Segment, freed: Freed) -> None:
        freed.records += len(segment.records)
        freed.size_bytes += segment.size_bytes
        batch.unfinished -= 1
        if batch.unfinished == 0:
            freed.batches.append(batch)
