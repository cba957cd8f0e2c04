"""What the client gives: records by partition, and errors in a record's place, of which some pass, some hold a
partition alone, and some end the source."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.intake import ByPartition, Intake, SourcePolicy
from streamer.core.membership import Read, ReadFrom
from streamer.core.pipeline.protocol import SourceFailed
from streamer.core.record import TopicPartition
from streamer.core.settle.calls import Act
from streamer.errors import ExitCode
from streamer.kafka.errors import MISSING, UNREADABLE, act_on_consumer, error_of, start_error
from streamer.kafka.source.assignment import Assignment
from streamer.kafka.source.calls import Calls
from streamer.kafka.source.requests import BROKER_S, HeldOffsetsError, held_error
from streamer.kafka.source.watch import REFUSALS, Watch
from streamer.ports import Post

AGAIN_S: Final = 60.0

Message = Any
"""The client's message. Its stub says that every field may be None, which is so for errors alone."""

log = logging.getLogger(__name__)


class Messages:
    """On the source's thread. What it learns of the group, of batches and of topics it tells the `watch`."""

    def __init__(
        self, policy: SourcePolicy, intake: Intake, watch: Watch, assignment: Assignment, calls: Calls, post: Post
    ) -> None:
        self._policy = policy
        self._watch = watch
        self._unreadable = watch.unreadable
        self._intake = intake
        self._assignment = assignment
        self._ours = assignment.ours
        self._calls = calls
        self._post = post
        self._only_topic = policy.topics[0] if len(policy.topics) == 1 else ""
        self._said: dict[tuple[int, TopicPartition], tuple[float, int]] = {}

    def by_partition(
        self, consumer: Consumer, messages: list[Message], before: dict[TopicPartition, int]
    ) -> ByPartition:
        """The records of these messages; `before` is what was ours when the client was asked. Raises KafkaException
        for what ends the source."""
        found: ByPartition = {}
        only_topic = self._only_topic
        topic, partition = "", -1
        failed = []
        for message in messages:
            if message.error() is not None:
                failed.append(message)
                continue
            # The client hands them over in long stretches of one partition.
            if message.partition() != partition or (not only_topic and message.topic() != topic):
                topic, partition = only_topic or message.topic(), message.partition()
                append = found.setdefault((topic, partition), []).append
            append(message)
        self._unreadable.gave(found)
        for message in failed:
            self._on_error(consumer, message, before, found)
        return found

    def _on_error(
        self, consumer: Consumer, message: Message, before: dict[TopicPartition, int], found: ByPartition
    ) -> None:
        """An error that came in a record's place; records behind a batch that can't be read are taken out."""
        error: KafkaError = message.error()
        code = error.code()
        key = (message.topic(), message.partition())
        epoch = self._ours.epochs.get(key)
        if code == KafkaError._PARTITION_EOF:
            again = before.get(key, epoch) != epoch  # what stands before this end is read again
            if not again:
                self._ours.came_to(key, message.offset())
            return
        held_at = self._unreadable.offset(key)
        if epoch is not None and (held_at is not None or code in UNREADABLE):
            self._hold(consumer, message, held_at, found)
            return
        act = act_on_consumer(error)
        if act is Act.OUT_OF_RANGE:
            if epoch is not None:
                self._on_out_of_range(consumer, key, error)
        elif act is not Act.RETRY:
            raise KafkaException(error)
        elif code in REFUSALS:
            if words := self._watch.joining.refused(code):
                self._end(ExitCode.CONFIGURATION, words)
        else:
            if code in MISSING and message.topic():
                self._watch.still.misses(message.topic())
            self._say(error, key, time.monotonic())

    def _say(self, error: KafkaError, key: TopicPartition, now: float) -> None:
        """One line for each kind and place, then one a minute with their number."""
        what = (error.code(), key)
        said_at, count = self._said.get(what, (float("-inf"), 0))
        if now - said_at < AGAIN_S:
            self._said[what] = (said_at, count + 1)
            return
        self._said[what] = (now, 0)
        self._watch.joining.last_error = error.name()
        data = {"error": error.name(), "topic": key[0], "partition": key[1], "count": count + 1}
        log.warning("the consumer continues after an error", extra={"data": data})

    def _hold(self, consumer: Consumer, message: Message, held_at: int | None, found: ByPartition) -> None:
        """A batch that can't be read, or what the client says and gives after one; `held_at` is where it was."""
        key = (message.topic(), message.partition())
        offset = message.offset() if held_at is None else held_at
        good = [record for record in found.pop(key, []) if record.offset() < offset]
        if good:
            found[key] = good
        if held_at is None:
            here = good[-1].offset() + 1 if good else self._ours.reached[key]
            self._unreadable.hold(key, max(offset, here), UNREADABLE[message.error().code()], time.monotonic())
            self._assignment.read_from(consumer, ReadFrom({key: here}, Read.REPLACE))

    def _on_out_of_range(self, consumer: Consumer, key: TopicPartition, error: KafkaError) -> None:
        """The next offset that we would read is not there, or was not."""
        position = consumer.position([KafkaPartition(*key)])[0].offset
        if position < 0:
            position = self._ours.reached[key]
        low, end = consumer.get_watermark_offsets(KafkaPartition(*key), timeout=BROKER_S)
        words = self._assignment.perform(consumer, self._intake.out_of_range(key, position, low, end))
        data = {"topic": key[0], "partition": key[1], "offset": position}
        if words:
            self._end(ExitCode.CONFIGURATION, words)
        elif position < low:
            log.warning(
                "records were deleted by retention before they were read",
                extra={"data": {**data, "records": low - position, "offset": low}},
            )
        elif position > end:
            log.warning("the log ends before the offset to read from: it is read from its start", extra={"data": data})
        else:
            self._say(error, key, time.monotonic())

    def _end(self, exit_code: ExitCode, message: str) -> None:
        self._post(SourceFailed(exit_code, message))
        self._calls.closing = True

    def failed(self, error: KafkaException) -> None:
        """The source ends: say why, and how to fix it."""
        inner = error_of(error)
        if act_on_consumer(inner) is Act.FENCED:
            message = (
                "another process joined the group under this slot and fenced this one; do not restart it. Two replicas "
                "may not share a slot: leave slot empty, or set it to different names"
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
