"""What goes wrong while reading: what passes, what is gone, what is held alone, what ends the source."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.pipeline.protocol import SourceFailed
from streamer.core.record import TopicPartition
from streamer.core.settle.calls import Act
from streamer.errors import ExitCode
from streamer.kafka.assignment import Assignment
from streamer.kafka.calls import Calls
from streamer.kafka.errors import MISSING, UNREADABLE, act_on_consumer, error_of, start_error
from streamer.kafka.joining import REFUSALS, Joining
from streamer.kafka.patience import BROKER_S, HeldOffsetsError, held_error
from streamer.kafka.source_policy import SourcePolicy
from streamer.kafka.unreadable import Unreadable, offset_words
from streamer.ports import Post

SAY_EVERY_S: Final = 60.0

Message = Any

log = logging.getLogger(__name__)


class ReadErrors:
    """Judges errors, on the source thread. `out_of_range_records` counts what retention took before it was read;
    `missing` are topics that the client did not find, for the owner to take."""

    def __init__(self, policy: SourcePolicy, assignment: Assignment, calls: Calls, post: Post) -> None:
        self.out_of_range_records = 0
        self.joining = Joining(policy, assignment.ours)
        self.unreadable = Unreadable(policy.group, policy.address)
        self.missing: set[str] = set()
        self._policy = policy
        self._assignment = assignment
        self._ours = assignment.ours
        self._calls = calls
        self._post = post
        self._said: dict[tuple[int, TopicPartition], tuple[float, int]] = {}

    def on_message(
        self, consumer: Consumer, message: Message, before: dict[TopicPartition, int], found: dict[Any, list[Message]]
    ) -> None:
        """An error that came in a record's place. `before` is what we owned when the client was asked, `found` are the
        records that it gave; those behind a batch that can't be read are taken out. Raises KafkaException for what
        ends the source."""
        error: KafkaError = message.error()
        code = error.code()
        key = (message.topic(), message.partition())
        epoch = self._ours.epochs.get(key)
        if code == KafkaError._PARTITION_EOF:
            again = before.get(key, epoch) != epoch  # what stands before this end is read again
            if not again:
                self._ours.came_to(key, message.offset())
            return
        if epoch is not None and (self.unreadable.holds(key) or code in UNREADABLE):
            self._hold(consumer, key, message, found)
            return
        act = act_on_consumer(error)
        if act is Act.OUT_OF_RANGE:
            if epoch is not None:
                self._on_out_of_range(consumer, key, error)
        elif act is not Act.RETRY:
            raise KafkaException(error)
        elif code in REFUSALS:
            if words := self.joining.refused(code):
                self._end(ExitCode.CONFIGURATION, words)
        else:
            if code in MISSING and message.topic():
                self.missing.add(message.topic())
            self._say(error, key, time.monotonic())

    def _say(self, error: KafkaError, key: TopicPartition, now: float) -> None:
        """One line for each kind and place, then one a minute with their number."""
        what = (error.code(), key)
        said_at, count = self._said.get(what, (float("-inf"), 0))
        if now - said_at < SAY_EVERY_S:
            self._said[what] = (said_at, count + 1)
            return
        self._said[what] = (now, 0)
        self.joining.last_error = error.name()
        data = {"error": error.name(), "topic": key[0], "partition": key[1], "count": count + 1}
        log.warning("the consumer continues after an error", extra={"data": data})

    def _hold(self, consumer: Consumer, key: TopicPartition, message: Message, found: dict[Any, list[Message]]) -> None:
        """A batch that can't be read, or what the client says and gives after one."""
        first = not self.unreadable.holds(key)
        offset = message.offset() if first else self.unreadable.offset(key)
        good = [record for record in found.pop(key, []) if record.offset() < offset]
        if good:
            found[key] = good
        if first:
            here = good[-1].offset() + 1 if good else self._ours.reached[key]
            self.unreadable.hold(key, max(offset, here), message.error().code(), time.monotonic())
            self._read_from(consumer, key, here)

    def _on_out_of_range(self, consumer: Consumer, key: TopicPartition, error: KafkaError) -> None:
        """The next offset that we would read is not there: below what is left, or beyond the end."""
        place, group = f"{key[0]}/{key[1]}", self._policy.group
        position = consumer.position([KafkaPartition(*key)])[0].offset
        if position < 0:
            position = self._ours.reached[key]
        low, end = consumer.get_watermark_offsets(KafkaPartition(*key), timeout=BROKER_S)
        data = {"topic": key[0], "partition": key[1], "offset": position}
        if low <= position <= end:
            self._say(error, key, time.monotonic())
            self._read_from(consumer, key, position)  # it was out of range, and is no longer so
        elif position < low:
            lost = low - position
            if not self._policy.skip_out_of_range:
                self._end(
                    ExitCode.CONFIGURATION,
                    f"{place}: retention deleted {lost} records between {position}, the next one to read, and {low}, "
                    'the first that is left. Set on_out_of_range = "earliest" to continue from there',
                )
                return
            self.out_of_range_records += lost
            log.warning(
                "records were deleted by retention before they were read",
                extra={"data": {**data, "records": lost, "offset": low}},
            )
            self._read_from(consumer, key, low)
        elif not self._policy.skip_out_of_range:
            self._end(
                ExitCode.CONFIGURATION,
                f"{place}: group {group} has come to offset {position}, and the log ends at {end}: it was recreated, "
                "truncated, or is a mirror with its own offsets. Set on_out_of_range = "
                f'"earliest" to read all that is there, from {low} on; or '
                f"{offset_words(key, group, self._policy.address)}, where N is the next offset to read",
            )
        else:
            log.warning("the log ends before the offset to read from: it is read from its start", extra={"data": data})
            self._assignment.perform(consumer, self._ours.begin_anew(frozenset({key})))

    def _read_from(self, consumer: Consumer, key: TopicPartition, offset: int) -> None:
        """Not a seek: a client that has stopped to fetch a partition can't be told to."""
        consumer.incremental_unassign([KafkaPartition(*key)])
        consumer.incremental_assign([KafkaPartition(*key, offset)])

    def _end(self, exit_code: ExitCode, message: str) -> None:
        self._post(SourceFailed(exit_code, message))
        self._calls.closing = True

    def failed(self, error: KafkaException) -> None:
        """The source ends: say why, and how to fix it."""
        inner = error_of(error)
        if act_on_consumer(inner) is Act.FENCED:
            message = (
                "another process joined the group under this slot and fenced this one; do not restart it. Two replicas "
                "may not share a slot: let it be chosen, or set slot to different names"
            )
            self._post(SourceFailed(ExitCode.FENCED, message))
            return
        if isinstance(error, HeldOffsetsError):
            held = held_error(self._policy.group)
            self._post(SourceFailed(held.exit_code, str(held)))
            return
        denied_group = inner.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
        resource = f"group {self._policy.group}" if denied_group else f"topic {', '.join(self._policy.topics)}"
        failure = start_error(inner, address=self._policy.address, operation="Read", resource=resource)
        self._post(SourceFailed(failure.exit_code, str(failure)))
