"""What follows where the brokers refuse a plan for good. Repeating it would not help.

- Where the output itself is at fault (a topic or partition that is not there, timestamps out of its bounds), the
  partitions whose outcomes go there are blocked, and the others go on.
- Where records are at fault, a delivery report names all that shared a request with one that is. So the plan is halved
  until the record at fault stands alone: it becomes a dead letter.
- A dead letter that is refused blocks its partition, and so does an offset: there is no other place for these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from streamer.core.pipeline.ledger import Freed, Ledger
from streamer.core.pipeline.plan_size import Cut
from streamer.core.pipeline.protocol import Settle
from streamer.core.pipeline.refusal import Refusal, Refused
from streamer.core.record import Answer, Segment, TopicPartition
from streamer.errors import Code, DataFailure

_CODES = {Refused.RECORD: Code.PUBLISH_REFUSED, Refused.SIZE: Code.PUBLISH_TOO_LARGE}

USUAL_RECORDS: Final = 1 << 14

Place = tuple[Segment, int]
"""A record: its segment and its index there."""


@dataclass(slots=True)
class Refusals:
    """Judges refused plans. While a record at fault is looked for, `_until` holds the partitions and offsets that it is
    among, and `_count` how many records these are. After one was found plans are small, as others may be near:
    `_most` doubles with each that is taken."""

    _ledger: Ledger
    _until: dict[TopicPartition, int] = field(default_factory=dict)
    _count: int = 0
    _most: int = USUAL_RECORDS

    def cut(self, now: float) -> Cut | None:
        """What the next plan is to be for the sake of earlier refusals, if they ask for anything."""
        if self._until:
            return Cut(self._until, max(self._count // 2, 1))
        if (key := self._ledger.due(now)) is not None:
            return Cut({key: 1 << 63}, 1, probe=True)
        return Cut(records=self._most) if self._most < USUAL_RECORDS else None

    def forget(self) -> None:
        """What was looked among is gone."""
        self._until = {}

    def settled(self, plan: Settle) -> frozenset[TopicPartition]:
        """A plan is durable; returns the partitions that may go on by that, and are to be read again."""
        self._most = min(2 * self._most, USUAL_RECORDS)
        if self._until:
            self._count -= sum(run.last - run.first for run in plan.runs)
            done = [key for key, offset in plan.offsets.items() if self._until.get(key, offset + 1) <= offset]
            for key in done:
                del self._until[key]
            if self._count <= 0:
                self._until = {}
        return frozenset(key for key, block in self._ledger.blocks.items() if plan.offsets.get(key, 0) > block.offset)

    def refused(self, plan: Settle, refusals: tuple[Refusal, ...], now: float) -> tuple[Freed, bool]:
        """A plan was refused, and taken back; returns what was dropped by that, and whether the next plan will be
        another one."""
        freed, acted = Freed(), False
        self._until = {}
        for refusal in refusals:
            places = list(concerned(plan, refusal))
            if not places:
                continue
            acted = True
            if refusal.kind in _CODES and refusal.letters is False:
                if len(places) > 1:
                    self._look_among(plan, places)
                else:
                    _mark_refused(*places[0], refusal)
                    self._most = 2
                continue
            firsts: dict[TopicPartition, int] = {}
            for segment, index in places:
                firsts.setdefault((segment.topic, segment.partition), segment.records[index].offset())
            for key, offset in firsts.items():
                more = self._ledger.block(key, offset, refusal, now)
                freed.size_bytes += more.size_bytes
                freed.batches += more.batches
        return freed, acted

    def _look_among(self, plan: Settle, places: list[Place]) -> None:
        for segment, _ in places:
            key = segment.topic, segment.partition
            self._until[key] = plan.offsets[key]
        self._count = sum(
            run.last - run.first for run in plan.runs if (run.segment.topic, run.segment.partition) in self._until
        )


def concerned(plan: Settle, refusal: Refusal) -> Iterator[Place]:
    """The plan's records whose outcomes went to the place that was refused."""
    for run in plan.runs:
        segment = run.segment
        if refusal.partition not in (-1, segment.partition):
            continue
        if refusal.kind is Refused.COMMIT and segment.topic != refusal.topic:
            continue
        for index in range(run.first, run.last):
            kind = type(segment.outcomes[index])
            if refusal.letters is None or kind is (DataFailure if refusal.letters else Answer):
                yield segment, index


def _mark_refused(segment: Segment, index: int, refusal: Refusal) -> None:
    """The brokers refuse its answer: it becomes a dead letter."""
    segment.outcomes[index] = DataFailure(_CODES[refusal.kind], f"{refusal.what}; {refusal.fix}.", refusal.code)
    segment.failures += 1
