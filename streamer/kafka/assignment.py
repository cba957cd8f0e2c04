"""Which partitions are ours, since when and from where on: the group's callbacks, on the source thread.

Every assignment gets an epoch of its own; a record counts only under the epoch under which its partition is ours now.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.pipeline.attempts import Attempts, Former, Mark
from streamer.core.pipeline.protocol import Assigned, Lost, Revoking
from streamer.core.record import TopicPartition
from streamer.core.tally import places
from streamer.kafka.calls import Calls
from streamer.kafka.errors import error_of
from streamer.kafka.patience import Beat, Held, Patience
from streamer.kafka.start import first_offsets, first_partitions, start_offsets
from streamer.ports import Post

SERVE_S = 0.05
UNMARK_S = 2.0
COMMIT_S = 60.0  # the client waits so long for a broker that does not answer
SEEN_S = 1.0  # how long one look at the committed offsets may take
LOOK_AT_HELD_S = 2.0

log = logging.getLogger(__name__)


class Assignment:
    """What we own. `before` tells of the group when this process started. `changed` is called whenever what we own has
    changed, or metadata may have; `beat` is told how long a request to the brokers may take from now on; `ends_of` asks
    for the ends of logs. `ends` are, with `until_end`, the offsets still to be come to."""

    def __init__(
        self,
        attempts: Attempts,
        calls: Calls,
        post: Post,
        *,
        start: str | int,
        until_end: bool,
        revoke_deadline_s: float,
        before: Callable[[], Former],
        changed: Callable[[], None],
        beat: Beat,
        held: Held,
        ends_of: Callable[[list[TopicPartition]], dict[TopicPartition, int]],
    ) -> None:
        self.epochs: dict[TopicPartition, int] = {}
        self.starts: dict[TopicPartition, int] = {}
        self.reached: dict[TopicPartition, int] = {}  # behind what was taken, of what is ours
        self.ends: dict[TopicPartition, int] | None = {} if until_end else None
        self.all_taken = False  # `until_end` was said
        self.waits_since: float | None = None  # for the group to say what is ours; None: it has
        self.lost_at = float("-inf")
        self.in_order = False  # the process ends for reasons of its own, and no plan is under way
        self._attempts = attempts
        self._calls = calls
        self._post = post
        self._start = start
        self._first: frozenset[TopicPartition] = frozenset()
        self._revoke_deadline_s = revoke_deadline_s
        self._before = before
        self._look_at = 0.0
        self._changed = changed
        self._beat = beat
        self._patience = Patience(beat, held)
        self._ends_of = ends_of
        self._epoch = 0
        self._released: set[int] = set()

    @property
    def epoch(self) -> int:
        """The latest; 0 while nothing was ever assigned."""
        return self._epoch

    def release(self, epoch: int) -> None:
        """The core lets these revoked partitions go; from any thread."""
        self._released.add(epoch)
        self._calls.ring()

    def before_joining(self, consumer: Consumer, topics: list[str]) -> None:
        """Note which partitions are there already, and who has them. Raises KafkaException."""
        self._attempts.started(self._before())
        if self._start == "latest":
            self._first = first_partitions(consumer, topics, self._patience)

    # --- callbacks ---------------------------------------------------------------------------------------------------

    def on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """Read on from the committed offsets."""
        given = sorted((one.topic, one.partition) for one in partitions)
        log.debug("taking over", extra={"data": {"partitions": given}})
        starts, fresh = start_offsets(consumer, partitions, self._start, self._first, self._patience)
        consumer.incremental_assign([KafkaPartition(one.topic, one.partition, one.offset) for one in starts])
        self._attempts.joined(consumer.memberid() or "")
        if fresh:
            self._say_fresh(fresh)
            self._commit_start(consumer, fresh)
        self.waits_since = None
        self._begin(consumer, starts)

    def on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """Wait until the core has settled what it can and lets go, or the deadline passes; serve calls meanwhile."""
        self._changed()
        self.waits_since = time.monotonic()  # the group divides anew, and will say so even where nothing is left for us
        keys = frozenset((partition.topic, partition.partition) for partition in partitions)
        if self._let_go(consumer, keys):
            self.end_in_order(consumer, keys)
        self._disown(keys)
        level = logging.DEBUG if self._calls.closing or not keys else logging.INFO  # at the end all are
        log.log(level, "revoked", extra={"data": {"partitions": sorted(keys)}, "words": f"gave up {places(keys)}"})

    def on_lost(self, _: Consumer, partitions: list[KafkaPartition]) -> None:
        """They are somebody else's already."""
        keys = frozenset((partition.topic, partition.partition) for partition in partitions)
        self.lost_at = self.waits_since = time.monotonic()
        self._disown(keys)
        words = f"lost {places(keys)}: the group gave them to another member, as this one was not heard of for too long"
        log.warning("lost", extra={"data": {"partitions": sorted(keys)}, "words": words})
        self._post(Lost(keys))

    # --- the source thread -------------------------------------------------------------------------------------------

    def rewind(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        """Read again from the committed offsets, under a new epoch. Raises KafkaException."""
        mine = [KafkaPartition(*key) for key in partitions if key in self.epochs]
        if not mine:
            return
        starts, _ = start_offsets(consumer, mine, self._start, self._first, self._patience)
        for one in starts:
            consumer.seek(KafkaPartition(one.topic, one.partition, one.offset))
        self._begin(consumer, starts)

    def look_at_held(self, consumer: Consumer) -> None:
        """Read on where a person has ended a hold, looking now and then. Raises KafkaException."""
        held, now = dict(self._attempts.held), time.monotonic()
        if not held or now < self._look_at:
            return
        self._look_at = now + LOOK_AT_HELD_S
        self._beat(SEEN_S)
        try:
            found = _marks(consumer.committed([KafkaPartition(*key) for key in held], timeout=SEEN_S))
        except KafkaException:
            return
        self.rewind(consumer, frozenset(key for key, mark in held.items() if found[key] != mark))

    def begin_anew(self, consumer: Consumer, keys: frozenset[TopicPartition]) -> None:
        """The logs of these partitions are others than they were: forget where we were, and read them from their start.
        Raises KafkaException."""
        self._let_go(consumer, keys)
        self._disown(keys)
        starts = self._patience.ask(lambda timeout_s: first_offsets(consumer, keys, timeout_s))
        consumer.incremental_unassign(starts)
        consumer.incremental_assign(starts)
        self._commit_start(consumer, starts)
        self._begin(consumer, starts)

    def end_in_order(self, consumer: Consumer, keys: Iterable[TopicPartition]) -> None:
        """Say of these partitions that they are let go in order, while the client is open: amid its close it does not
        tell what is committed. What is held is a person's, who may be about to commit."""
        mine = [KafkaPartition(*key) for key in keys if key in self.epochs and key not in self._attempts.held]
        if not mine:
            return
        self._beat(UNMARK_S)
        with suppress(KafkaException):
            there = _marks(consumer.committed(mine, timeout=UNMARK_S))
            ended = {key: (at, self._attempts.ended(note)) for key, (at, note) in there.items() if at >= 0}
            self._commit(consumer, ended, "an orderly end")

    def mark(self, consumer: Consumer, firsts: dict[TopicPartition, int]) -> None:
        """Note in the committed offsets that records of these partitions are about to be handed over, from these on. To
        be called again for those that are not marked then: the note has to be seen.

        Each look tells of the commit before it, since the coordinator answers in order; one that is not there was
        refused, as amid a rebalance. A commit that waits for its answer can't be used: it has no time limit.
        """
        marks = self._attempts.marks(firsts)
        self._beat(SEEN_S)
        with suppress(KafkaException):
            found = _marks(consumer.committed([KafkaPartition(*key) for key in marks], timeout=SEEN_S))
            missing = {key: mark for key, mark in marks.items() if found[key] != mark}
            self._commit(consumer, missing, "an attempt", wait=False)
            self._attempts.marked(marks.keys() - missing.keys())

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

    def _let_go(self, consumer: Consumer, keys: frozenset[TopicPartition]) -> bool:
        """Wait until the core has settled what it can of these and lets go; returns whether it did."""
        self._epoch += 1
        epoch = self._epoch
        if keys and not self._calls.closing:
            self._post(Revoking(epoch, keys))
            deadline = time.monotonic() + self._revoke_deadline_s
            while epoch not in self._released and not self._calls.closing and time.monotonic() < deadline:
                self._beat(SERVE_S)
                self._calls.serve(consumer)
                self._calls.rest(SERVE_S)
        released = epoch in self._released
        self._released.discard(epoch)
        return released

    def _begin(self, consumer: Consumer, starts: list[KafkaPartition]) -> None:
        """Read from these offsets, but for what is held."""
        found = _marks(starts)
        self._attempts.assigned(found, time.monotonic())
        held = self._attempts.held
        marks = {key: held[key] for key, mark in found.items() if key in held and held[key] != mark}
        self._commit(consumer, marks, "a hold", wait=False)
        self._expect_ends([one for one in starts if (one.topic, one.partition) not in held])
        self._own(starts)

    def _commit_start(self, consumer: Consumer, starts: list[KafkaPartition]) -> None:
        keys = {(one.topic, one.partition): one.offset for one in starts}
        marks = {key: (offset, self._attempts.note(key, offset)) for key, offset in keys.items()}
        self._commit(consumer, marks, "the start")

    def _own(self, starts: list[KafkaPartition]) -> None:
        self._epoch += 1
        epochs = {(start.topic, start.partition): self._epoch for start in starts}
        self.epochs.update(epochs)
        offsets = {(start.topic, start.partition): start.offset for start in starts}
        self.starts.update(offsets)
        self.reached.update(offsets)
        self._first = self._first.difference(offsets)  # from now on they have an offset, or their topic is another one
        data = {"partitions": sorted(epochs), "epoch": self._epoch}
        log.log(
            logging.INFO if epochs else logging.DEBUG,
            "assigned",
            extra={"data": data, "words": f"reading {places(epochs)}"},
        )
        self._post(Assigned(epochs))
        self._changed()

    def _say_fresh(self, fresh: list[KafkaPartition]) -> None:
        """Nobody can tell a group that never had an offset from one whose offsets are gone, but for what we had."""
        keys = sorted((one.topic, one.partition) for one in fresh)
        had = any(key in self.starts for key in keys)
        log.log(
            logging.DEBUG if self._start == "earliest" and not had else logging.WARNING,
            f'the group has no offset of these partitions, which are read from start = "{self._start}" on. If it had '
            "some, they expired (offsets.retention.minutes of the brokers) or were deleted",
            extra={"data": {"partitions": keys}},
        )

    def _disown(self, keys: Iterable[TopicPartition]) -> None:
        self._attempts.dropped(keys)
        for key in keys:
            self.epochs.pop(key, None)
            self.reached.pop(key, None)
            if self.ends is not None:
                self.ends.pop(key, None)
        self._changed()

    def _expect_ends(self, starts: list[KafkaPartition]) -> None:
        """`until_end`: what is there now of these partitions has to be taken, what stands behind an open transaction
        included. An end before the start is waited for, too: the client will say that it is out of range."""
        if self.ends is None or not starts:
            return
        keys = {(start.topic, start.partition): start.offset for start in starts}
        for key, end in self._patience.ask(lambda _: self._ends_of(list(keys))).items():
            if end != keys[key]:
                self.ends[key] = end
                self.all_taken = False

    def _commit(self, consumer: Consumer, marks: dict[TopicPartition, Mark], what: str, *, wait: bool = True) -> None:
        """Commit outside of any plan. Only where no plan can be under way for these partitions: the later of two
        commits wins, also over a transaction that ends after it."""
        listed = [KafkaPartition(topic, one, offset, metadata) for (topic, one), (offset, metadata) in marks.items()]
        if not listed:
            return
        self._beat(COMMIT_S)
        try:
            consumer.commit(offsets=listed, asynchronous=not wait)  # type: ignore[call-overload]  # its stub has literals
        except KafkaException as error:
            log.warning("an offset was not committed", extra={"data": {"of": what, "error": error_of(error).name()}})


def _marks(partitions: Iterable[KafkaPartition]) -> dict[TopicPartition, Mark]:
    return {(one.topic, one.partition): (one.offset, one.metadata or "") for one in partitions}
