"""What the dead-letter tools read and write through: a log of topics, and a copier whose commits are transactions."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, TopicCollection

from streamer.config.fields import KafkaConfig, Property
from streamer.core.events.codec import Reading
from streamer.core.output import Output
from streamer.core.settle.calls import Act
from streamer.errors import ConfigurationError, DependencyError, ExitCode, StreamerError
from streamer.kafka.clients import MESSAGE_BYTES, make_producer, produce, writer_properties
from streamer.kafka.errors import act_on_producer, answer, error_of, start_error
from streamer.kafka.scan import Scan
from streamer.kafka.topics import TopicInfo, connect, describe
from streamer.kafka.writer import Writer

_INIT_S = 5.0
_ASK_S = 10.0
_PATIENCE_S = 30.0
_TRIES = 5
_REFUSED = (Act.DENIED, Act.TOO_LARGE)  # to make it again does not help
_AGAIN = (Act.ABORT, Act.STALE)


class CopierFencedError(StreamerError):
    """Another process writes the same."""

    exit_code = ExitCode.FENCED


class TopicLog:
    """The topics of a cluster, and how pipelines by name read events. Raises DependencyError when it
    does not answer."""

    def __init__(self, kafka: KafkaConfig, readings: Mapping[str, Reading] | None = None) -> None:
        self.readings = readings or {}
        self._kafka = kafka
        self._admin = connect(kafka)

    def scan(
        self, topic: str, *, starts: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
    ) -> Scan:
        """Open a pass over a topic."""
        return Scan(self._kafka, topic, starts=starts, ends=ends)

    def identity(self, topic: str) -> str | None:
        """The topic's id, "" where the brokers are too old to give one; None where there is no topic."""
        future = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_ASK_S)[topic]
        try:
            found = answer(future, _ASK_S).topic_id
        except KafkaException as error:
            if error_of(error).code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID):
                return None
            raise start_error(error, address=self._kafka.bootstrap_servers, resource=f"topic {topic}") from None
        high, low = found.get_most_significant_bits(), found.get_least_significant_bits()
        return f"{high % 2**64:016x}{low % 2**64:016x}" if high or low else ""

    def describe(self, topics: Sequence[str]) -> dict[str, TopicInfo | None]:
        """Each topic as it is, None where it does not exist."""
        return describe(self._admin, self._kafka, topics)


def writer_for(kafka: KafkaConfig, limits: Sequence[int]) -> Writer:
    """A bulk writer for topics of these `max.message.bytes`."""
    sizes: dict[str, Property] = {"batch.size": min(limits), "message.max.bytes": max(*limits, MESSAGE_BYTES)}
    return Writer(msgspec.structs.replace(kafka, properties={**kafka.properties, **sizes}))


class TransactionalCopier:
    """Writes records in transactions under the id `streamer.dlq.{topic}`: of two processes that move dead letters of
    one topic the later one ends the earlier one's. What is copied for something else has its own `prefix` of the id,
    and its own words for being `taken_over`.

    `limits` are the `max.message.bytes` of the topics written to: a batch of the client is never larger than the
    smallest, since librdkafka does not split what a broker refuses.
    Raises DependencyError when the brokers don't answer, ConfigurationError when a right is missing.
    """

    prefix = "streamer.dlq."
    taken_over = (
        "another process is moving dead letters of {}; what this one moved stays moved. Let the other one finish, then"
        " start this job again if anything is left"
    )

    def __init__(self, kafka: KafkaConfig, topic: str, limits: Sequence[int]) -> None:
        self._address = kafka.bootstrap_servers
        self._topic = topic
        self._resource = f"transactional-id {self.prefix}{topic}"
        self._undelivered: list[tuple[KafkaError, str]] = []
        self._producer = make_producer(
            {
                **writer_properties(kafka),
                "transactional.id": f"{self.prefix}{topic}",
                "transaction.timeout.ms": 10_000,
                "retry.backoff.ms": 5,
                "retry.backoff.max.ms": 50,
                "linger.ms": 0,
                "batch.size": min(limits),
                "message.max.bytes": max(*limits, MESSAGE_BYTES),
            }
        )
        try:
            self._retry(lambda: self._producer.init_transactions(_INIT_S))
        except KafkaException as error:
            self.close()
            raise self._explained(error_of(error), self._resource) from None

    def commit(self, outputs: Sequence[Output]) -> None:
        """All of these in one transaction. Where it is aborted, e.g. by a broker that moves, it is made again.

        Raises CopierFencedError when another process took over, and DependencyError when it is not known whether they
        are written: whoever opens the copier next finds out.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                self._producer.begin_transaction()
                self._produce(outputs)
                self._retry(self._producer.commit_transaction)
                return
            except KafkaException as error:
                act = act_on_producer(error)
                cause, resource = self._undelivered[0] if self._undelivered else (error_of(error), self._resource)
                self._undelivered.clear()
                if act in _AGAIN or act in _REFUSED:
                    self._retry(self._producer.abort_transaction)
                if act not in _AGAIN or act_on_producer(cause) in _REFUSED or attempt == _TRIES:
                    raise self._explained(cause, resource) from None

    def close(self) -> None:
        """Abort what is open; a producer that was fenced can't, and would warn of it or raise."""
        self._producer.purge()
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning), suppress(KafkaException):
            self._producer.close()

    def _produce(self, outputs: Sequence[Output]) -> None:
        for topic, partition, key, value, headers in outputs:
            produce(self._producer, topic, value, key, partition, on_delivery=self._note, headers=list(headers))
        self._producer.poll(0)

    def _note(self, error: KafkaError | None, message: Message) -> None:
        """Called for failures only; what was purged by an abort is none."""
        if error is not None and act_on_producer(error) is not Act.IGNORE:
            self._undelivered.append((error, f"topic {message.topic()}"))

    def _retry(self, call: Callable[[], None]) -> None:
        """Repeat a call that librdkafka calls retriable, with the same arguments."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                call()
                return
            except KafkaException as error:
                if act_on_producer(error) is not Act.RETRY or time.monotonic() > deadline:
                    raise

    def _explained(self, error: KafkaError, resource: str) -> StreamerError:
        act = act_on_producer(error)
        if act is Act.FENCED:
            return CopierFencedError(self.taken_over.format(self._topic))
        if act is Act.TOO_LARGE:
            return ConfigurationError(
                f"a record is over max.message.bytes of {resource}, and its transaction was aborted; raise that limit"
            )
        failure = start_error(error, address=self._address, operation="Write", resource=resource)
        if isinstance(failure, DependencyError):
            return DependencyError(f"{failure}. Start the same job again: it continues from what is written")
        return failure
