"""Which partitions are ours, since when and from where on: what comes next after each word of the group.

Nothing is called in here. A generator yields what it asks for, is sent the answer or thrown `Failed`, and ends.
`kafka/` runs it on the consumer's thread, `testing/` on a task. Every assignment gets an epoch of its own; a record
counts only under the epoch under which its partition is ours now.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeVar

from streamer.core.pipeline.attempts import Attempts, Mark
from streamer.core.pipeline.protocol import Assigned, Input, Lost, Revoking
from streamer.core.record import TopicPartition
from streamer.core.settle.calls import Failed

SERVE_S: Final = 0.05
UNMARK_S: Final = 2.0
SEEN_S: Final = 1.0  # how long one look at the committed offsets may take
LOOK_AT_HELD_S: Final = 2.0
SPARE_S: Final = 5.0  # beyond what the last owner may take, for the group to say whose its partitions are

T = TypeVar("T")
Marks = dict[TopicPartition, Mark]
Offsets = dict[TopicPartition, int]


class Ask(Enum):
    """What needs no argument."""

    NOW = auto()  # seconds of a monotonic clock
    CLOSING = auto()  # bool: whether this process leaves the group now
    MEMBER = auto()  # our id in the group, "" for none
    PUBLISH = auto()  # let the sink know what we own, under the newest metadata


@dataclass(frozen=True, slots=True)
class Post:
    """Tell the pipeline."""

    fact: Input


@dataclass(frozen=True, slots=True)
class Starts:
    """Where to read these from, with what is committed of them, once no transaction of an earlier owner is open on
    that; and which of them had nothing committed. Waits for the brokers; what it raises ends the source."""

    keys: list[TopicPartition]


@dataclass(frozen=True, slots=True)
class Firsts:
    """The first offsets that are there, of those that are there. Waits for the brokers, as `Starts` does."""

    keys: list[TopicPartition]


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of these logs. Waits for the brokers, as `Starts` does."""

    keys: list[TopicPartition]


@dataclass(frozen=True, slots=True)
class Committed:
    """What is committed of these, within so many seconds; -1 for nothing. Raises Failed."""

    keys: list[TopicPartition]
    within_s: float


@dataclass(frozen=True, slots=True)
class ReadFrom:
    """Read on from here: `Read.ADD` partitions that are new to us, `Read.SEEK` in ours, or `Read.REPLACE` them by
    others of the same name."""

    offsets: Offsets
    how: Read


class Read(Enum):
    """How reading goes on from another offset."""

    ADD = auto()
    SEEK = auto()
    REPLACE = auto()


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit outside of any plan; without `wait` the answer is not awaited. That it failed is only said. Asked for only
    where no plan can be under way for these partitions: the later of two commits wins, also over a transaction that
    ends after it."""

    marks: Marks
    what: str
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Serve:
    """Run what others want of the consumer, and rest for so long."""

    seconds: float


Asked = Ask | Post | Starts | Firsts | Ends | Committed | ReadFrom | Commit | Serve
Steps = Generator[Asked, Any, T]


class Membership:
    """What we own. `epochs`, `starts` and `lost_at` may be read from any thread. `ends` are, where the run ends with
    the log, the offsets still to be come to."""

    def __init__(self, attempts: Attempts, *, until_end: bool = False, revoke_deadline_s: float) -> None:
        self.epochs: Offsets = {}
        self.starts: Offsets = {}
        self.reached: Offsets = {}  # behind what was taken, of what is ours
        self.ends: Offsets | None = {} if until_end else None
        self.all_taken = False  # that the end is reached was said
        self.spare_since = float("inf")  # the group said that nothing is ours
        self.waits_since: float | None = None  # for the group to say what is ours; None: it has
        self.lost_at = float("-inf")
        self.epoch = 0  # the latest; 0 while nothing was ever assigned
        self.resets = 0  # partitions that were read from the start of another log than before
        self._attempts = attempts
        self._revoke_deadline_s = revoke_deadline_s
        self._look_at = 0.0
        self._released: set[int] = set()

    def release(self, epoch: int) -> None:
        """The core lets these revoked partitions go; from any thread."""
        self._released.add(epoch)

    def at_end(self, now: float) -> bool:
        """Whether a run that ends with the log has taken all. One that has no partition waits for as long as another
        member may take to give it some: the group says in between that there are none for it."""
        spare = not self.epochs and now - self.spare_since < self._revoke_deadline_s + SPARE_S
        return not self.ends and self.waits_since is None and not spare

    # --- the group's word --------------------------------------------------------------------------------------------

    def assigned(self, keys: list[TopicPartition]) -> Steps[None]:
        """Read on from the committed offsets."""
        starts, fresh = yield Starts(keys)
        self.resets += len(self.starts.keys() & fresh)  # a deleted topic takes the group's offsets with it
        yield ReadFrom(_offsets(starts), Read.ADD)
        self._attempts.joined((yield Ask.MEMBER))
        if fresh:
            yield from self._commit_start({key: starts[key][0] for key in fresh})
        self.waits_since = None
        if not keys and not self.epochs:
            self.spare_since = yield Ask.NOW
        yield from self._begin(starts)

    def revoked(self, keys: frozenset[TopicPartition]) -> Steps[None]:
        """Wait until the core has settled what it can and lets go, or the deadline passes; serve calls meanwhile."""
        yield Ask.PUBLISH
        self.waits_since = yield Ask.NOW  # the group reassigns, and will say so even where nothing is left for us
        if (yield from self._let_go(keys)):
            yield from self.end_in_order(keys)
        yield from self.disown(keys)

    def lost(self, keys: frozenset[TopicPartition]) -> Steps[None]:
        """They are somebody else's already."""
        self.lost_at = self.waits_since = yield Ask.NOW
        yield from self.disown(keys)
        yield Post(Lost(keys))

    # --- between -----------------------------------------------------------------------------------------------------

    def rewind(self, partitions: Iterable[TopicPartition]) -> Steps[None]:
        """Read again from the committed offsets, under a new epoch."""
        mine = sorted(key for key in partitions if key in self.epochs)
        if mine:
            starts, _ = yield Starts(mine)
            yield ReadFrom(_offsets(starts), Read.SEEK)
            yield from self._begin(starts)

    def look_at_held(self) -> Steps[None]:
        """Read on where a person has ended a hold, looking now and then."""
        held = dict(self._attempts.held)
        if not held or (now := (yield Ask.NOW)) < self._look_at:
            return
        self._look_at = now + LOOK_AT_HELD_S
        try:
            found = yield Committed(sorted(held), SEEN_S)
        except Failed:
            return
        yield from self.rewind(key for key, mark in held.items() if found[key] != mark)

    def reset_to_start(self, keys: frozenset[TopicPartition]) -> Steps[None]:
        """These partitions were recreated: forget where we were, and read them from their start."""
        self.resets += len(keys)
        yield from self._let_go(keys)
        yield from self.disown(keys)
        firsts: Offsets = yield Firsts(sorted(keys))
        yield ReadFrom(firsts, Read.REPLACE)
        yield from self._commit_start(firsts)
        yield from self._begin({key: (offset, "") for key, offset in firsts.items()})

    def end_in_order(self, keys: Iterable[TopicPartition]) -> Steps[None]:
        """Say of these partitions that they are let go in order, while the client is open: amid its close it does not
        tell what is committed. What is held is a person's, who may be about to commit."""
        mine = sorted(key for key in keys if key in self.epochs and key not in self._attempts.held)
        if not mine:
            return
        try:
            there: Marks = yield Committed(mine, UNMARK_S)
        except Failed:
            return
        ended = {key: (at, self._attempts.ended(note)) for key, (at, note) in there.items() if at >= 0}
        yield from self._commit(ended, "an orderly end")

    def mark(self, firsts: Mapping[TopicPartition, int]) -> Steps[None]:
        """Note in the committed offsets that records of these partitions are about to be handed over, from these on. To
        be called again for those that are not marked then: the note has to be seen.

        The look tells of the commit before it, since the coordinator answers in order; one that is not there was
        refused, as amid a rebalance. A commit that waits for its answer can't be used: it has no time limit.
        """
        marks = self._attempts.marks(firsts)
        yield from self._commit(marks, "an attempt", wait=False)
        try:
            found: Marks = yield Committed(sorted(marks), SEEN_S)
        except Failed:
            return
        self._attempts.marked(key for key, mark in marks.items() if found[key] == mark)

    def disown(self, keys: Iterable[TopicPartition]) -> Steps[None]:
        """These are not ours any more."""
        self._attempts.dropped(keys)
        for key in keys:
            self.epochs.pop(key, None)
            self.reached.pop(key, None)
            if self.ends is not None:
                self.ends.pop(key, None)
        yield Ask.PUBLISH

    def took(self, key: TopicPartition, end: int) -> None:
        """This partition was taken up to this offset."""
        self.reached[key] = end
        self.came_to(key, end)

    def came_to(self, key: TopicPartition, end: int) -> None:
        """There is nothing more to take of this partition below this offset."""
        if self.ends is not None and end >= self.ends.get(key, 0):
            self.ends.pop(key, None)

    def gave_back(self, key: TopicPartition, end: int) -> None:
        """Records of this partition up to this offset will be read again, although its end was seen behind them."""
        if self.ends is not None and key in self.epochs:
            self.ends[key] = max(end, self.ends.get(key, 0))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _let_go(self, keys: frozenset[TopicPartition]) -> Steps[bool]:
        """Wait until the core has settled what it can of these and lets go; returns whether it did."""
        self.epoch += 1
        epoch = self.epoch
        if keys and not (yield Ask.CLOSING):
            yield Post(Revoking(epoch, keys))
            deadline = (yield Ask.NOW) + self._revoke_deadline_s
            while epoch not in self._released and not (yield Ask.CLOSING) and (yield Ask.NOW) < deadline:
                yield Serve(SERVE_S)
        released = epoch in self._released
        self._released.discard(epoch)
        return released

    def _begin(self, starts: Marks) -> Steps[None]:
        """Read from these offsets, but for what is held."""
        self._attempts.assigned(starts, (yield Ask.NOW))
        held = self._attempts.held
        marks = {key: held[key] for key, mark in starts.items() if key in held and held[key] != mark}
        yield from self._commit(marks, "a hold", wait=False)
        offsets = _offsets(starts)
        yield from self._expect_ends({key: offset for key, offset in offsets.items() if key not in held})
        self.epoch += 1
        epochs = dict.fromkeys(starts, self.epoch)
        self.epochs.update(epochs)
        self.starts.update(offsets)
        self.reached.update(offsets)
        yield Post(Assigned(epochs))
        yield Ask.PUBLISH

    def _expect_ends(self, starts: Offsets) -> Steps[None]:
        """What is there now of these partitions has to be taken, what stands behind an open transaction included. An
        end before the start is waited for, too: the client will say that it is out of range."""
        if self.ends is None or not starts:
            return
        ends: Offsets = yield Ends(list(starts))
        for key, end in ends.items():
            if end != starts[key]:
                self.ends[key] = end
                self.all_taken = False

    def _commit_start(self, offsets: Offsets) -> Steps[None]:
        marks = {key: (offset, self._attempts.note(key, offset)) for key, offset in offsets.items()}
        yield from self._commit(marks, "the start")

    def _commit(self, marks: Marks, what: str, *, wait: bool = True) -> Steps[None]:
        if marks:
            yield Commit(marks, what, wait)


def _offsets(marks: Marks) -> Offsets:
    return {key: offset for key, (offset, _) in marks.items()}
