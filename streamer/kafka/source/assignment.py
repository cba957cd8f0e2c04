"""The group's callbacks and what follows from them, on the source thread: the steps of `core.membership`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.membership import (
    Ask,
    Asked,
    Commit,
    Committed,
    Ends,
    Firsts,
    Marks,
    Membership,
    Post,
    Read,
    ReadFrom,
    Serve,
    Starts,
    Steps,
)
from streamer.core.pipeline.attempts import Mark
from streamer.core.pipeline.protocol import Assigned, Input
from streamer.core.record import TopicPartition
from streamer.core.settle.calls import Act, Failed
from streamer.core.steps import perform
from streamer.core.tally import places
from streamer.kafka.errors import error_of
from streamer.kafka.source.calls import Calls
from streamer.kafka.source.requests import Beat, Held, Patience, first_offsets, first_partitions, start_offsets

COMMIT_S = 60.0  # the client waits so long for a broker that does not answer

T = TypeVar("T")
log = logging.getLogger(__name__)


class Assignment:
    """Makes the calls that `ours` asks for. `start` is where a group without offsets begins. `changed` is called
    whenever what we own has changed, or metadata may have; `beat` is told how long a request to the brokers may take
    from now on; `ends_of` asks for the ends of logs."""

    def __init__(
        self,
        ours: Membership,
        calls: Calls,
        post: Callable[[Input], None],
        *,
        start: str | int,
        changed: Callable[[], None],
        beat: Beat,
        held: Held,
        ends_of: Callable[[list[TopicPartition]], dict[TopicPartition, int]],
    ) -> None:
        self.ours = ours
        self._calls = calls
        self._post = post
        self._start = start
        self._first: frozenset[TopicPartition] = frozenset()
        self._changed = changed
        self._beat = beat
        self._patience = Patience(beat, held)
        self._ends_of = ends_of

    def release(self, epoch: int) -> None:
        """The core lets these revoked partitions go; from any thread."""
        self.ours.release(epoch)
        self._calls.ring()

    def before_joining(self, consumer: Consumer, topics: list[str]) -> None:
        """Note which partitions are there already. Raises KafkaException."""
        if self._start == "latest":
            self._first = first_partitions(consumer, topics, self._patience)

    def on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """To be given to the client, as the two that follow."""
        keys = sorted((one.topic, one.partition) for one in partitions)
        log.debug("taking over", extra={"data": {"partitions": keys}})
        self.perform(consumer, self.ours.assigned(keys))

    def on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """These go to somebody else, once they are let go."""
        keys = frozenset((one.topic, one.partition) for one in partitions)
        self.perform(consumer, self.ours.revoked(keys))
        level = logging.DEBUG if self._calls.closing or not keys else logging.INFO  # at the end all are
        log.log(level, "revoked", extra={"data": {"partitions": sorted(keys)}, "words": f"gave up {places(keys)}"})

    def on_lost(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        """They are somebody else's already."""
        keys = frozenset((one.topic, one.partition) for one in partitions)
        words = (
            f"lost {places(keys)}: the group gave them to another member, because this one had been silent for too long"
        )
        log.warning("lost", extra={"data": {"partitions": sorted(keys)}, "words": words})
        self.perform(consumer, self.ours.lost(keys))

    def perform(self, consumer: Consumer, steps: Steps[T]) -> T:
        """Make the calls that the steps ask for, until they end. Raises KafkaException."""
        return perform(steps, partial(self._call, consumer), (Failed,))

    def _call(self, consumer: Consumer, asked: Asked) -> Any:
        match asked:
            case Ask.NOW:
                return time.monotonic()
            case Ask.CLOSING:
                return self._calls.closing
            case Ask.MEMBER:
                return consumer.memberid() or ""
            case Ask.PUBLISH:
                self._changed()
            case Post():
                if isinstance(asked.fact, Assigned):
                    self._say_assigned(asked.fact.epochs)
                self._post(asked.fact)
            case Starts():
                return self._starts(consumer, asked.keys)
            case Firsts():
                found = self._patience.ask(lambda timeout_s: first_offsets(consumer, asked.keys, timeout_s))
                return {(one.topic, one.partition): one.offset for one in found}
            case Ends():
                return self._patience.ask(lambda _: self._ends_of(asked.keys))
            case Committed():
                return self._committed(consumer, asked)
            case ReadFrom():
                self.read_from(consumer, asked)
            case Commit():
                self._commit(consumer, asked)
            case Serve():
                self._beat(asked.seconds)
                self._calls.serve(consumer)
                self._calls.rest(asked.seconds)
        return None

    def _starts(self, consumer: Consumer, keys: list[TopicPartition]) -> tuple[Marks, list[TopicPartition]]:
        listed = [KafkaPartition(*key) for key in keys]
        starts, fresh = start_offsets(consumer, listed, self._start, self._first, self._patience)
        # From now on they have an offset, or their topic is another one.
        self._first = self._first.difference(keys)
        if fresh:
            self._say_fresh(sorted((one.topic, one.partition) for one in fresh))
        return _marks(starts), [(one.topic, one.partition) for one in fresh]

    def _committed(self, consumer: Consumer, asked: Committed) -> Marks:
        self._beat(asked.within_s)
        try:
            return _marks(consumer.committed([KafkaPartition(*key) for key in asked.keys], timeout=asked.within_s))
        except KafkaException as error:
            raise Failed(Act.RETRY, error_of(error).name()) from None

    def read_from(self, consumer: Consumer, asked: ReadFrom) -> None:
        """Read on from other offsets. A client that has stopped to fetch a partition can't be told to seek: `REPLACE`
        it. Raises KafkaException."""
        listed = [KafkaPartition(*key, offset) for key, offset in asked.offsets.items()]
        match asked.how:
            case Read.ADD:
                consumer.incremental_assign(listed)
            case Read.SEEK:
                for one in listed:
                    consumer.seek(one)
            case Read.REPLACE:
                consumer.incremental_unassign(listed)
                consumer.incremental_assign(listed)

    def _say_assigned(self, epochs: dict[TopicPartition, int]) -> None:
        data = {"partitions": sorted(epochs), "epoch": self.ours.epoch}
        level = logging.INFO if epochs else logging.DEBUG
        log.log(level, "assigned", extra={"data": data, "words": f"reading {places(epochs)}"})

    def _say_fresh(self, keys: list[TopicPartition]) -> None:
        """Nobody can tell a group that never had an offset from one whose offsets are gone, but for what we had."""
        had = any(key in self.ours.starts for key in keys)
        log.log(
            logging.DEBUG if self._start == "earliest" and not had else logging.WARNING,
            f'the group has no offsets for these partitions, so they are read from start = "{self._start}" on. If it '
            "had some, they expired (offsets.retention.minutes of the brokers) or were deleted",
            extra={"data": {"partitions": keys}},
        )

    def _commit(self, consumer: Consumer, asked: Commit) -> None:
        listed = [KafkaPartition(*key, offset, metadata) for key, (offset, metadata) in asked.marks.items()]
        self._beat(COMMIT_S)
        try:
            consumer.commit(offsets=listed, asynchronous=not asked.wait)  # type: ignore[call-overload]  # literals
        except KafkaException as error:
            data = {"of": asked.what, "error": error_of(error).name()}
            log.warning("an offset was not committed", extra={"data": data})


def _marks(partitions: Iterable[KafkaPartition]) -> dict[TopicPartition, Mark]:
    return {(one.topic, one.partition): (one.offset, one.metadata or "") for one in partitions}
