"""The crash ledger: a record that takes whole processes down is not tried for ever, and no other is blamed for it.

A worker's death is the fleet's business. When the driver dies too, nobody is left to remember, so the metadata of a
partition's committed offset do. Every settle leaves its process's name there, and an orderly end says that it was one:
both cost nothing. Who finds a name without an end has evidence of a death, and only then commits a note before it hands
over the partition's first records: its own name, added to those that had them before. A settle clears the names, an
orderly end takes one's own back, and who finds its own name there has lost the partition and not its life, and strikes
it out. So the names are of processes that died with records in flight while the same offset stayed committed.

| deaths | how the partition's records are handed over |
|---|---|
| 0 | as always |
| 1 | `FEW` records at a time, all partitions together, the next when these are settled |
| 2 and on | one record at a time and nothing else in the process, up to where the note says; other partitions wait |
| the limit | not at all: the partition is held until a person buries the record or releases the partition |

From the third death on each speaks of one record. A good record that went down with others is cleared the first time
that it runs alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing

FEW = 256
RANGE_RECORDS = 32_768  # more than is ever in flight of one partition
IDLE_S = 5.0  # a partition that gives no record for so long has none there to be suspected

Mark = tuple[int, str]
"""What to commit, or what was: an offset and its metadata."""


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata of a committed offset. `owner` committed it, and has let the partition go in order if it `ended`.
    The processes in `by` died with records from here on in their hands, or have them now: `at` is the first of these,
    `until` the offset behind the last. `most` records may be handed over at a time up to there, 0 being no limit, and
    none where the partition is `held`."""

    owner: str = ""
    ended: bool = False
    by: list[str] = []
    at: int = 0
    until: int = 0
    most: int = 0
    held: bool = False

    @classmethod
    def read(cls, metadata: str | None) -> Note:
        """What is no note of ours counts as none."""
        try:
            return msgspec.json.decode(metadata or "{}", type=cls)
        except (msgspec.MsgspecError, RecursionError):
            return cls()

    def write(self) -> str:
        """As metadata; a broker takes 4,096 bytes."""
        return msgspec.json.encode(self).decode()

    def after_hold(self) -> Note:
        """What a person leaves behind who ends a hold: nobody is blamed, and care goes on."""
        return Note(until=self.until, most=1)


def standing_of(partition: TopicPartition, mark: Mark) -> Standing | None:
    """What to say of a partition of which this is committed: nothing, unless it is held."""
    note = Note.read(mark[1])
    if not note.held:
        return None
    where = f"{partition[0]}/{partition[1]}"
    return Standing(
        partition,
        note.at,
        Reason.HELD,
        f"{len(note.by)} processes died in a row while working on this record",
        f"make it a dead letter with `streamer dlq bury {where}/{note.at}`, or try it again with `streamer dlq release "
        f"{where}`",
    )


class Former(NamedTuple):
    """The group when this process started: which member had what, and who lives although a note counts it as dead."""

    owners: Mapping[TopicPartition, str] = {}
    alive: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Head:
    """A partition to be careful with. `by` are the other processes that had its records from `offset` on, `floor` is
    how many were handed over at a time before; `asked_at` is since when records are waited for."""

    offset: int
    by: list[str]
    until: int
    floor: int
    asked_at: float
    marked: bool = False

    @property
    def most(self) -> int:
        """How many records may be handed over at a time; 0 is no limit."""
        few = (0, FEW, 1)[min(len(self.by), 2)]
        return min(filter(None, (few, self.floor)), default=0)


class Attempts:
    """One process's part. Times are seconds of a monotonic clock.

    `unmarked` are the partitions whose records may not be handed over before their `marks` are committed, `watching`
    says whether `settled` matters to anybody, `most` is how many records may be handed over while nothing else is in
    flight (None: no need for care), and `on_trial` the partition whose records run alone. `held` are those that are not
    read, with what is committed of them; it may be copied from any thread.
    """

    def __init__(self, limit: int) -> None:
        self.unmarked: frozenset[TopicPartition] = frozenset()
        self.watching = False
        self.most: int | None = None
        self.on_trial: TopicPartition | None = None
        self.held: dict[TopicPartition, Mark] = {}
        self._limit = limit
        self._name = ""
        self._living: set[str] = {""}
        self._before: dict[TopicPartition, str] = {}
        self._heads: dict[TopicPartition, _Head] = {}

    # --- partitions come and go --------------------------------------------------------------------------------------

    def started(self, former: Former) -> None:
        """To be told before the group is joined."""
        self._before = dict(former.owners)
        self._living.update(map(_short, former.alive))

    def joined(self, member: str) -> None:
        """The group knows us under this id from now on."""
        self._name = _short(member)
        self._living.add(self._name)

    def assigned(self, found: Mapping[TopicPartition, Mark], now: float) -> None:
        """Own these partitions, or read them again: what is committed of them."""
        self.dropped(found)
        for key, (offset, metadata) in found.items():
            note = Note.read(metadata)
            by = [name for name in note.by if name not in self._living]
            if note.held or len(by) >= self._limit:
                as_held = msgspec.structs.replace(note, by=by, at=max(note.at, offset), held=True)
                self.held[key] = offset, metadata if note.held else as_held.write()
                continue
            owners = {note.owner, _short(self._before.pop(key, ""))} - self._living
            if by or note.most or owners - {note.owner if note.ended else ""}:
                until = min(note.until or offset + RANGE_RECORDS, offset + RANGE_RECORDS)
                self._heads[key] = _Head(offset, by, max(until, offset + 1), note.most, now)
        self._look()

    def dropped(self, keys: Iterable[TopicPartition]) -> None:
        """These partitions are not ours any more."""
        for key in keys:
            self._heads.pop(key, None)
            self.held.pop(key, None)
        self._look()

    def ended(self, metadata: str) -> str:
        """What the metadata become of a partition that we let go in order, unless it is held."""
        note = Note.read(metadata)
        by = [name for name in note.by if name not in self._living]
        return msgspec.structs.replace(note, owner=self._name, ended=True, by=by).write()

    # --- how to hand over --------------------------------------------------------------------------------------------

    def marks(self, firsts: Mapping[TopicPartition, int]) -> dict[TopicPartition, Mark]:
        """What has to be committed of these unmarked partitions before records from these offsets on go out."""
        marks: dict[TopicPartition, Mark] = {}
        for key, first in firsts.items():
            head = self._heads[key]
            until = {0: 0, FEW: first + FEW}.get(head.most, head.until)
            note = Note(self._name, by=[*head.by, self._name], at=first, until=until, most=head.floor)
            marks[key] = (head.offset, note.write())
        return marks

    def marked(self, keys: Iterable[TopicPartition]) -> None:
        """The marks of these are committed: their records may be handed over."""
        for key in keys:
            self._heads[key].marked = True
        self._look()

    def note(self, key: TopicPartition, offset: int) -> str:
        """The metadata of this offset, which is about to be settled. From any thread."""
        head = self._heads.get(key)
        careful = head is not None and head.most and offset < head.until
        return (Note(self._name, until=head.until, most=head.most) if head and careful else Note(self._name)).write()

    def settled(self, offsets: Mapping[TopicPartition, int], now: float) -> None:
        """All that was handed over of these partitions is durable, up to these offsets."""
        for key, offset in offsets.items():
            head = self._heads.get(key)
            if head is None or not head.marked or offset <= head.offset:
                continue
            if not head.most or offset >= head.until:
                del self._heads[key]
            else:
                self._heads[key] = _Head(offset, [], head.until, head.most, now)
        self._look()

    def waited(self, now: float) -> None:
        """Nothing came. A partition that was asked for long and gave nothing needs no care any more."""
        for key, head in self._heads.items():
            if self.on_trial is not None and key != self.on_trial:
                head.asked_at = now  # it is not asked
            elif head.most and not head.marked and now - head.asked_at > IDLE_S:
                head.by, head.floor = [], 0
        self._look()

    def _look(self) -> None:
        heads = self._heads
        self.unmarked = frozenset(key for key, head in heads.items() if not head.marked)
        self.watching = len(self.unmarked) < len(heads)
        self.most = min((head.most for head in heads.values() if head.most), default=None)
        alone = [(-len(head.by), key) for key, head in heads.items() if head.most == 1]
        self.on_trial = min(alone)[1] if alone else None


def would_hold(metadata: str, member: str, limit: int) -> bool:
    """Whether the death of this member would lead to a hold, being the last of so many."""
    note = Note.read(metadata)
    return not note.held and len(note.by) >= limit and note.by[-1] == _short(member)


def _short(member: str) -> str:
    """A name for the notes, which may have to hold a hundred of them; "" is nobody."""
    return hashlib.blake2b(member.encode(), digest_size=4).hexdigest() if member else ""
