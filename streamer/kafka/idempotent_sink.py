"""At least once against librdkafka: the calls of `core.settle.AtLeastOnce`."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.core.pipeline.protocol import Settle
from streamer.core.settle.at_least_once import AtLeastOnce
from streamer.core.settle.calls import Act, Asked, Call, ClosingError, CommitOffsets, Failed
from streamer.kafka.errors import act_on_producer, error_of, start_error
from streamer.kafka.sink import KafkaSink

_FOR_GOOD = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.OFFSET_METADATA_TOO_LARGE,
        KafkaError.INVALID_COMMIT_OFFSET_SIZE,
    }
)


class IdempotentSink(KafkaSink):
    """At least once: acknowledged outcomes first, then the offsets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._protocol = AtLeastOnce()

    def replace_if_hung(self, now: float) -> None:
        """No call of its own is without a limit."""

    def _begin(self, patience_s: float) -> None:
        assert self._producer is not None
        try:
            self._producer.list_topics(timeout=patience_s)
        except KafkaException as error:
            raise start_error(error, address=self._address) from None

    def _call(self, asked: Asked, plan: Settle | None) -> Any:
        match asked:
            case Call.DELIVER:
                return self._deliver()
            case CommitOffsets() if plan is not None:
                return self._commit(plan, asked.offsets)
            case _:
                return super()._call(asked, plan)

    def _deliver(self) -> None:
        """Wait for all acknowledgements. A slow way is no standing still."""
        assert self._producer is not None
        before = len(self._producer)
        while left := self._producer.flush(1.0):
            if self._closing:
                raise ClosingError
            if left < before:
                before, self.busy_since = left, time.monotonic()

    def _commit(self, plan: Settle, offsets: dict[tuple[str, int], int]) -> dict[tuple[str, int], Failed]:
        """Each partition's error is in the answer; one that is raised is so for all of them."""
        listed = self._with_notes(offsets)

        def commit(consumer: Consumer) -> list[TopicPartition] | None:
            """On the source thread, so that ownership can't change between look and commit."""
            if not self._offsets.ownership.holds(plan.epochs):
                return None
            return consumer.commit(offsets=listed, asynchronous=False) or []

        try:
            found = self._offsets.call(commit).result(30.0)
        except KafkaException as error:
            raise _refused(error_of(error)) from None
        except TimeoutError:
            raise Failed(Act.REBUILD, "_TIMED_OUT") from None
        except RuntimeError:  # the source is closed
            raise ClosingError from None
        if found is None:
            raise Failed(Act.STALE, "not owned any more")
        return {(one.topic, one.partition): _refused(one.error) for one in found if one.error is not None}


def _refused(error: KafkaError) -> Failed:
    return Failed(Act.BAD_TOPIC if error.code() in _FOR_GOOD else act_on_producer(error), error.name(), error)
