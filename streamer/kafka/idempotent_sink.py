"""At least once: the outcomes are written, all acknowledgements awaited, then the offsets committed."""

from __future__ import annotations

import logging
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamer.core.pipeline.protocol import Refusal, Refused, Settle, Settled, Unsettled
from streamer.core.pipeline.tried_commits import TriedCommits
from streamer.core.plan_encoder import TakenBackError
from streamer.kafka.errors import Act, act_on_producer, error_of, start_error
from streamer.kafka.sink import KafkaSink

_FOR_GOOD = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.OFFSET_METADATA_TOO_LARGE,
        KafkaError.INVALID_COMMIT_OFFSET_SIZE,
    }
)

log = logging.getLogger(__name__)


class IdempotentSink(KafkaSink):
    """At least once: acknowledged outcomes first, then the offsets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._failed: list[KafkaError] = []
        self._tried = TriedCommits()

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """To be given to the producer; called for failures only (`delivery.report.only.error`)."""
        super().on_delivery(error, message)
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
        if not self._producers.fits():
            log.info("the topics take other sizes: a new producer")
            self._new_producer()
        if refusals := self._without_place(plan):
            return Unsettled(plan.settle, "refused", refusals=refusals)
        try:
            self._produce(plan)
            self._deliver()
        except TakenBackError:
            self._new_producer()
            return Unsettled(plan.settle, "refused")
        except KafkaException as error:
            self._failed.append(error_of(error))
        if self._failed or len(self._producer):
            return self._undelivered(plan)
        return self._commit(plan)

    def _deliver(self) -> None:
        """Wait for all acknowledgements. A slow way is no standing still."""
        assert self._producer is not None
        before = len(self._producer)
        while (left := self._producer.flush(1.0)) and not self._closing:
            if left < before:
                before, self.busy_since = left, time.monotonic()

    def _commit(self, plan: Settle) -> Settled | Unsettled:
        plan = self._tried.no_less(plan)
        offsets = self._listed(plan)
        try:
            found = self._offsets.call(lambda consumer: self._commit_offsets(consumer, plan, offsets)).result(30.0)
        except (KafkaException, TimeoutError, RuntimeError) as error:
            log.warning("offsets were not committed", extra={"data": {"error": type(error).__name__}})
            why = error_of(error) if isinstance(error, KafkaException) else None
            if why is not None and act_on_producer(why) is Act.DENIED:
                raise
            if why is not None and why.code() in _FOR_GOOD:  # raised where it is so for all of them
                refusals = tuple(_offset_refused(one, why.name()) for one in offsets)
                return Unsettled(plan.settle, "commit", refusals=refusals, error=why.name())
            return Unsettled(plan.settle, "commit", error=why.name() if why is not None else "")
        refused = [(one, one.error) for one in found if one.error is not None]
        if not refused:
            return Settled(plan.settle, size_bytes=self._produced_bytes)
        for _, because in refused:
            if act_on_producer(because) is Act.DENIED:
                raise KafkaException(because)
        return Unsettled(
            plan.settle,
            "commit",
            {(one.topic, one.partition): one.offset for one in found if one.error is None},
            refusals=tuple(
                _offset_refused(one, because.name()) for one, because in refused if because.code() in _FOR_GOOD
            ),
            error=refused[0][1].name(),
        )

    def _commit_offsets(self, consumer: Consumer, plan: Settle, offsets: list[TopicPartition]) -> list[TopicPartition]:
        """On the source thread, so that ownership can't change between look and commit. Each partition's error, if any,
        is in what it returns."""
        if not self._offsets.ownership.holds(plan.epochs):
            raise RuntimeError("not owned any more")
        return consumer.commit(offsets=offsets, asynchronous=False) or []

    def _undelivered(self, plan: Settle) -> Unsettled:
        """Order would break were the rest delivered later: a new producer, and everything is written again. What the
        brokers refuse for good is said; else everything is read again, too."""
        assert self._producer is not None
        names = {error.name() for error in self._failed}
        log.warning("outcomes were not delivered", extra={"data": {"errors": sorted(names)}})
        denied = next((error for error in self._failed if act_on_producer(error) is Act.DENIED), None)
        if denied is not None:
            raise KafkaException(denied)
        timed_out = any(error.code() == KafkaError._MSG_TIMED_OUT for error in self._failed)
        seconds = time.monotonic() - (self.plan_since or 0.0)
        refused, delivered_bytes = bool(self._refused), self._delivered_bytes
        self._new_producer()
        refusals = self._refusals(plan, None) if refused or timed_out else ()
        if refused or refusals:
            return Unsettled(plan.settle, "refused", refusals=refusals, error=min(names, default=""))
        return Unsettled(
            plan.settle,
            "delivery",
            restart=True,
            seconds=seconds,
            size_bytes=self._produced_bytes,
            delivered_bytes=delivered_bytes,
            error=min(names, default=""),
        )

    def _new_producer(self) -> None:
        self._drop_producer()
        self._failed.clear()
        self._producer = self._producers.make()


def _offset_refused(one: TopicPartition, code: str) -> Refusal:
    return Refusal(
        one.topic,
        one.partition,
        Refused.COMMIT,
        code,
        f"the group's offset of it can't be committed ({code})",
        "see that the topic is there and that the brokers take offsets, then restart the pipeline",
        None,
    )
