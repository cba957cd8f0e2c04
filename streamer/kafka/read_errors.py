"""What goes wrong while reading: what passes, what is gone, what ends the source."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core.pipeline.protocol import SourceFailed
from streamer.core.record import TopicPartition
from streamer.errors import ExitCode
from streamer.kafka.assignment import Assignment
from streamer.kafka.calls import Calls
from streamer.kafka.errors import Act, act_on_consumer, error_of, start_error
from streamer.kafka.patience import BROKER_S, HeldOffsetsError, held_error
from streamer.kafka.source_policy import SourcePolicy
from streamer.ports import Post

Message = Any

log = logging.getLogger(__name__)


class ReadErrors:
    """Judges errors, on the source thread. `out_of_range_records` counts what retention took before it was read."""

    def __init__(self, policy: SourcePolicy, assignment: Assignment, calls: Calls, post: Post) -> None:
        self.out_of_range_records = 0
        self._policy = policy
        self._assignment = assignment
        self._calls = calls
        self._post = post

    def on_message(self, consumer: Consumer, message: Message, before: dict[TopicPartition, int]) -> None:
        """An error that came in a record's place. `before` is what we owned when the client was asked. Raises
        KafkaException for what ends the source."""
        error: KafkaError = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            key = (message.topic(), message.partition())
            epoch = self._assignment.epochs.get(key)
            again = before.get(key, epoch) != epoch  # what stands before this end is read again
            if not again:
                self._assignment.took(key, message.offset())
            return
        act = act_on_consumer(error)
        if act is Act.OUT_OF_RANGE:
            self._on_out_of_range(consumer, message)
        elif act is Act.RETRY:
            log.warning("the consumer goes on after an error", extra={"data": {"error": error.name()}})
        else:
            raise KafkaException(error)

    def _on_out_of_range(self, consumer: Consumer, message: Message) -> None:
        key = (message.topic(), message.partition())
        partition = KafkaPartition(*key)
        low, _ = consumer.get_watermark_offsets(partition, timeout=BROKER_S)
        committed = consumer.committed([partition], timeout=BROKER_S)[0].offset
        lost = max(low - committed, 0) if committed >= 0 else 0
        if not self._policy.skip_out_of_range:
            self._post(
                SourceFailed(
                    ExitCode.CONFIGURATION,
                    f"{key[0]}/{key[1]}: retention deleted {lost} records between the committed offset {committed} and "
                    f'{low}, the first that is left. Set on_out_of_range = "earliest" to go on from there',
                )
            )
            self._calls.closing = True
            return
        self.out_of_range_records += lost
        log.warning(
            "records were deleted by retention before they were read",
            extra={"data": {"topic": key[0], "partition": key[1], "records": lost, "offset": low}},
        )
        # The client has stopped to fetch this partition, so that it can't be told to seek.
        consumer.incremental_unassign([partition])
        consumer.incremental_assign([KafkaPartition(key[0], key[1], low)])

    def failed(self, error: KafkaException) -> None:
        """The source ends: say why, and how to mend it."""
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
