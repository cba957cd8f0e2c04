"""The crash ledger: a record that takes the whole process down with it is not tried for ever.

A worker's death is the fleet's business. When the driver dies too, nobody is left to remember, so what was tried is
noted in the metadata of the partition's committed offset: before a process hands over a partition's first records it
commits the same offset again with its name added to those that had them before. A settle commits without metadata,
which is the reset; an orderly end takes the note back; and who finds its own name there has lost the partition and not
its life, and strikes it out. So the names are of processes that died, or are away, while the same offset stays
committed; `attempt` is how many they are with the one that has the records now.

| attempt | how the partition's records are handed over |
|---|---|
| 1 | as always |
| 2 | `FEW` records at a time, all partitions together, the next when these are settled; the note says up to where |
| 3 and on | one record at a time and nothing else in the process, up to where the note says; other partitions wait |
| over the limit | the record at the committed offset becomes a dead letter without being looked at |

From the third attempt on a death speaks of one record. A good record that went down with others is cleared the first
time that it runs alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from streamer.core.record import TopicPartition
from streamer.errors import Code, DataFailure

FEW = 256
RANGE_RECORDS = 32_768  # more than is ever in flight of one partition
IDLE_S = 5.0  # a partition that gives no record for so long has none there to be suspected

Mark = tuple[int, str]
"""What to commit, or what was: an offset and its metadata."""


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata of a committed offset: the processes in `by` had the records from here on in their hands and did not
    end in order. `until` is the offset behind what the last of them had (from attempt 2 on)."""

    by: list[str] = []
    until: int = 0

    @property
    def attempt(self) -> int:
        """How many they are."""
        return len(self.by)

    @classmethod
    def read(cls, metadata: str) -> Note:
        """What is no note of ours counts as none."""
        try:
            return msgspec.json.decode(metadata or "{}", type=cls)
        except (msgspec.MsgspecError, RecursionError):
            return cls()

    def write(self) -> str:
        """As metadata; a broker takes 4,096 bytes."""
        return msgspec.json.encode(self).decode()


@dataclass(slots=True)
class _Head:
    """A partition of which nothing was settled since we own it, or that needs care still. `offset` is the committed
    one, `found` what its metadata was, `others` the other processes that had its records, `until` where care ends;
    `asked_at` is since when records are waited for."""

    offset: int
    found: str
    others: list[str]
    until: int
    asked_at: float
    marked: bool = False

    @property
    def attempt(self) -> int:
        """Ours."""
        return len(self.others) + 1


class Attempts:
    """One process's part. `by` is a name that no other process has; times are seconds of a monotonic clock.

    `unmarked` are the partitions that `hand_over` has to be asked about, `watching` says whether `settled` matters to
    anybody, `most` is how many records may be handed over while nothing else is in flight (None: no need for care),
    and `on_trial` the partition whose records run alone.
    """

    def __init__(self, limit: int, by: str) -> None:
        self.unmarked: frozenset[TopicPartition] = frozenset()
        self.watching = False
        self.most: int | None = None
        self.on_trial: TopicPartition | None = None
        self._limit = limit
        self._by = by
        self._heads: dict[TopicPartition, _Head] = {}

    # --- partitions come and go --------------------------------------------------------------------------------------

    def assigned(self, found: dict[TopicPartition, Mark], now: float) -> None:
        """Own these partitions: their committed offsets and what the metadata says."""
        for key, (offset, metadata) in found.items():
            note = Note.read(metadata)
            others = [name for name in note.by if name != self._by]
            until = offset + RANGE_RECORDS if len(others) == 1 else min(note.until, offset + RANGE_RECORDS)
            self._heads[key] = _Head(offset, metadata, others, max(until, offset + 1), now)
        self._look()

    def moved(self, offsets: dict[TopicPartition, int], now: float) -> None:
        """Read these partitions again from these committed offsets; nobody died. What was counted against a record that
        is settled by now, as after a commit whose answer was lost, is not its successor's."""
        for key, offset in offsets.items():
            head = self._heads.get(key)
            if head is None:
                continue
            if offset > head.offset:
                self._passed(key, head, offset, now)
            else:
                head.offset, head.marked, head.asked_at = offset, False, now
        self._look()

    def left(self, keys: Iterable[TopicPartition], *, stopping: bool = False) -> dict[TopicPartition, Mark]:
        """These partitions go in order; returns what to commit where the committed offset is still this one: our own
        attempt is taken back, or, by a process that stops, all of them."""
        heads = {key: head for key in keys if (head := self._heads.pop(key, None)) is not None}
        self._look()
        return {key: (head.offset, "" if stopping else head.found) for key, head in heads.items() if head.marked}

    # --- how to hand over --------------------------------------------------------------------------------------------

    def hand_over(self, ends: dict[TopicPartition, int], now: float) -> dict[TopicPartition, Mark]:
        """Records up to these offsets are about to be handed over; returns what to commit before."""
        marks: dict[TopicPartition, Mark] = {}
        for key, end in ends.items():
            head = self._heads.get(key)
            if head is not None and not head.marked:
                head.marked, head.asked_at = True, now
                until = {1: 0, 2: end}.get(head.attempt, head.until)
                marks[key] = (head.offset, Note([*head.others, self._by], until).write())
        self._look()
        return marks

    def verdict(self, key: TopicPartition) -> DataFailure | None:
        """What the next record of this partition ends as, unlooked at, when it has had its attempts."""
        head = self._heads.get(key)
        if head is None or head.attempt <= self._limit:
            return None
        return DataFailure(
            Code.INFER_DRIVER_KILLED,
            f"{head.attempt - 1} processes in a row died with this record at the head of its partition, the last ones "
            "with nothing else in flight",
            attempts=head.attempt - 1,
        )

    def settled(self, offsets: dict[TopicPartition, int], now: float) -> None:
        """All that was handed over of these partitions is durable, up to these offsets."""
        for key, offset in offsets.items():
            head = self._heads.get(key)
            if head is not None and head.marked and offset > head.offset:
                self._passed(key, head, offset, now)
        self._look()

    def _passed(self, key: TopicPartition, head: _Head, offset: int, now: float) -> None:
        """The record that was counted against is behind; care goes on up to where the note says."""
        if head.attempt == 1 or offset >= head.until:
            del self._heads[key]
            return
        head.offset, head.found, head.others = offset, "", head.others[:2]
        head.marked, head.asked_at = False, now

    def waited(self, now: float) -> None:
        """Nothing came. A partition that was asked for long and gave nothing needs no care any more."""
        for key, head in self._heads.items():
            if self.on_trial is not None and key != self.on_trial:
                head.asked_at = now  # it is not asked
            elif head.attempt > 1 and not head.marked and now - head.asked_at > IDLE_S:
                head.others, head.found = [], ""
        self._look()

    def _look(self) -> None:
        heads = self._heads
        self.unmarked = frozenset(key for key, head in heads.items() if not head.marked)
        self.watching = len(self.unmarked) < len(heads)
        highest = max((head.attempt for head in heads.values()), default=1)
        self.most = {1: None, 2: FEW}.get(highest, 1)
        self.on_trial = min(key for key, head in heads.items() if head.attempt == highest) if highest > 2 else None
