"""At least once: the outcomes are written, all acknowledgements awaited, then the offsets committed."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamer.core.pipeline.protocol import Settle, Settled, Unsettled
from streamer.kafka.errors import Act, act_on_producer, error_of, start_error
from streamer.kafka.sink import KafkaSink

log = logging.getLogger(__name__)


class IdempotentSink(KafkaSink):
    """At least once: acknowledged outcomes first, then the offsets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._failed: list[KafkaError] = []

    def on_delivery(self, error: KafkaError | None, _: Message) -> None:
        """To be given to the producer; called for failures only (`delivery.report.only.error`)."""
        if error is not None:
            self._failed.append(error)

    def relieve(self, now: float) -> None:
        """No call of its own is without a limit."""

    def _begin(self, patience_s: float) -> None:
        assert self._producer is not None
        try:
            self._producer.list_topics(timeout=patience_s)
        except KafkaException as error:
            raise start_error(error, address=self._address) from None

    def _settle(self, plan: Settle) -> Settled | Unsettled:
        assert self._producer is not None
        if not self._offsets.ownership.holds(plan.epochs):
            return Unsettled(plan.settle, "ownership")
        try:
            self._produce(plan)
            while self._producer.flush(1.0) and not self._closing:
                pass
        except KafkaException as error:
            self._failed.append(error_of(error))
        if self._failed or len(self._producer):
            return self._undelivered(plan)
        offsets = self._listed(plan)
        try:
            self._offsets.call(lambda consumer: self._commit(consumer, plan, offsets)).result(30.0)
        except (KafkaException, TimeoutError, RuntimeError) as error:
            log.warning("offsets were not committed", extra={"data": {"error": type(error).__name__}})
            return Unsettled(plan.settle, "commit")
        return Settled(plan.settle)

    def _commit(self, consumer: Consumer, plan: Settle, offsets: list[TopicPartition]) -> None:
        """On the source thread, so that ownership can't change between look and commit."""
        if not self._offsets.ownership.holds(plan.epochs):
            raise RuntimeError("not owned any more")
        for committed in consumer.commit(offsets=offsets, asynchronous=False) or ():
            if committed.error is not None:
                raise KafkaException(committed.error)

    def _undelivered(self, plan: Settle) -> Unsettled:
        """Order would break were the rest delivered later: a new producer, and everything is read again."""
        assert self._producer is not None
        names = {error.name() for error in self._failed}
        log.warning("outcomes were not delivered", extra={"data": {"errors": sorted(names)}})
        denied = next((error for error in self._failed if act_on_producer(error) is Act.DENIED), None)
        self._failed.clear()
        if denied is not None:
            raise KafkaException(denied)
        self._drop_producer()
        self._failed.clear()
        self._producer = self._producers.make()
        return Unsettled(plan.settle, "delivery", restart=True)
