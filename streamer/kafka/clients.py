"""From configuration to Kafka clients: every librdkafka property that streamer sets, and why.

The user's properties (`kafka.properties`) come over the defaults here; what the guarantees rest on is refused by the
configuration (`config.properties.OWNED`) and laid over last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streamer.config.fields import KafkaConfig
from streamer.config.pipeline import PipelineConfig
from streamer.config.properties import is_harmless, is_secret, property_text
from streamer.config.url import HIDDEN
from streamer.core.members import CLIENT, client_of
from streamer.errors import ConfigurationError, DependencyError
from streamer.kafka.source import topic_ids
from streamer.kafka.tokens import Tokens, tokens
from streamer.machine.affinity import everywhere

Properties = dict[str, Any]
OnError = Callable[[KafkaError], None]
Client = TypeVar("Client")

# The part of a pipeline's byte budget that the client may fetch ahead; the rest bounds what is in flight behind it.
PREFETCH_SHARE = 0.25
# The smallest message.max.bytes of librdkafka's producer that lets the brokers' own default (1 MiB and a header) pass.
MESSAGE_BYTES = 1_100_000

# What the producer may hold at most: a plan may be larger, and waits.
QUEUE_BYTES = 32_000_000

# The upper ends of what librdkafka accepts, or uses by default.
_MAX_FETCH_BYTES = 52_428_800
_MAX_QUEUED_KBYTES = 2_097_151
_QUIET_S = 10.0
_log = logging.getLogger("streamer.kafka.client")


class _OnlyNews(logging.Filter):
    """Drops what is no news: CONFWARN (the same properties go to consumers and producers, and librdkafka warns at each
    that one of them does not use), FAIL (a line for each attempt to connect, hundreds in an outage: `on_error` is told
    the same), GETPID (a coordinator that still loads is asked again) and TXNERR (the call raises the same; at a
    rebalance it is normal)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(("CONFWARN", "FAIL", "GETPID", "TXNERR"))


_log.addFilter(_OnlyNews())

# For every client. Reconnecting soon after an outage costs little; 10 s between attempts is librdkafka's default.
_COMMON: Properties = {
    "client.id": CLIENT,
    "reconnect.backoff.max.ms": 2000,
    "socket.nagle.disable": True,
}
# Set for every consumer; nothing is committed or reset behind our back.
_CONSUMER_LAW: Properties = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
}
# At librdkafka's 100 ms the transactional loop falls from 140,000 to 53,000 records/s, with a p99 of 120 ms (measured
# on two cores with Kafka 4.3.1).
_FAST_RETRY: Properties = {"retry.backoff.ms": 5, "retry.backoff.max.ms": 50}
_FAST_FETCH: Properties = {
    "fetch.wait.max.ms": 100,  # how long an idle fetch holds up a newly assigned partition; 500 by default
    "fetch.queue.backoff.ms": 5,  # how long a full queue, once drained, stays empty; 1,000 by default
    "fetch.error.backoff.ms": 50,
}


def in_flight_bytes(budget_mb: int) -> int:
    """What of the byte budget is left for records in flight behind the client's own queue."""
    return budget_mb * 1_000_000 - prefetch_bytes(budget_mb)


def prefetch_bytes(budget_mb: int) -> int:
    """What of the byte budget the client may fetch ahead."""
    return int(budget_mb * 1_000_000 * PREFETCH_SHARE)


def consumer_properties(kafka: KafkaConfig, pipeline: PipelineConfig, slot: str) -> Properties:
    """A member of the pipeline's group, under the stable identity `slot`.

    `session.timeout.ms` is how long a dead member holds its partitions; a heartbeat a second lets a join move
    partitions in 1 s (at librdkafka's 3 s it takes up to 6 s). Where the group has no offset, the source decides where
    to start: `auto.offset.reset` is `error`, so that nothing is skipped silently.
    """
    prefetch = prefetch_bytes(pipeline.budget_mb)
    defaults: Properties = {
        **_FAST_RETRY,
        **_FAST_FETCH,
        "client.id": client_of(pipeline.output),
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
        "max.poll.interval.ms": 300_000,
        "queued.min.messages": 10_000,  # 100,000 a partition by default: small records take more than their bytes
        "fetch.max.bytes": min(max(prefetch, MESSAGE_BYTES), _MAX_FETCH_BYTES),
        "fetch.message.max.bytes": min(prefetch, 1_048_576),
        "topic.metadata.refresh.interval.ms": 30_000,  # a topic that is back, new partitions: 300 s by default
        "check.crcs": True,  # without it a bit that flipped on a disk is a letter of a text
    }
    owned: Properties = {
        **_CONSUMER_LAW,
        "group.id": pipeline.group,
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "auto.offset.reset": "error",
        "queued.max.messages.kbytes": min(prefetch // 1024, _MAX_QUEUED_KBYTES),
        "allow.auto.create.topics": False,
        "debug": ",".join(filter(None, (str(kafka.properties.get("debug", "")), topic_ids.DEBUG))),
    }
    if pipeline.static_membership:
        owned["group.instance.id"] = slot
    return _properties(kafka, defaults, owned)


def producer_properties(
    kafka: KafkaConfig,
    pipeline: PipelineConfig,
    slot: str,
    *,
    batch_bytes: int | None = None,
    largest_bytes: int = MESSAGE_BYTES,
) -> Properties:
    """The pipeline's producer: transactional for `exactly_once`, else idempotent.

    `batch_bytes` is the smallest `max.message.bytes` of the topics written: librdkafka does not split a batch that the
    broker refuses. `largest_bytes` is the largest of them: the local limit must not be below it.
    `transaction.timeout.ms` is what readers wait for after a kill, plus up to 10 s of the broker's abort scan.
    """
    defaults: Properties = {
        **_FAST_RETRY,
        "compression.type": "none",
        "message.max.bytes": max(largest_bytes, MESSAGE_BYTES),
        "queue.buffering.max.messages": 1_000_000,
        # A single message over the queue's limit would never fit.
        "queue.buffering.max.kbytes": max(min(pipeline.budget_mb * 1_000_000, QUEUE_BYTES), 2 * largest_bytes) // 1024,
    }
    owned: Properties = {
        "linger.ms": 20,  # larger batches for less CPU; the flush before a commit does not wait for it (measured)
        "delivery.report.only.error": True,
        "partitioner": "murmur2_random",
        "allow.auto.create.topics": False,
    }
    if batch_bytes is not None:
        owned["batch.size"] = batch_bytes
    if pipeline.guarantee == "exactly_once":
        defaults["transaction.timeout.ms"] = 10_000
        # Offsets are refused while the broker still ends the last transaction, which takes 1 to 3 ms. Twice as long
        # each time, so that an outage is not asked more often than with `_FAST_RETRY`.
        defaults["retry.backoff.ms"] = 1
        # When the group's coordinator is lost for longer than it stays in the metadata, send_offsets_to_transaction
        # waits, past its timeout, until the connection to *another* broker opens or closes (librdkafka #5511, #5456).
        # Idle ones close after this time, so that it goes on; without it that took 90 s and a new process (measured).
        defaults["connections.max.idle.ms"] = 4_000
        owned["transactional.id"] = f"{pipeline.group}.{slot}"
    else:
        owned["enable.idempotence"] = True
    return _properties(kafka, defaults, owned)


def writer_properties(kafka: KafkaConfig) -> Properties:
    """A plain idempotent producer for telemetry and for filling topics: it waits 5 ms for larger batches."""
    owned: Properties = {
        "enable.idempotence": True,
        "linger.ms": 5,
        "delivery.report.only.error": True,
        "partitioner": "murmur2_random",
        "allow.auto.create.topics": False,
    }
    return _properties(kafka, {"queue.buffering.max.messages": 500_000}, owned)


def reader_properties(kafka: KafkaConfig, *, queued_mb: int = 32) -> Properties:
    """A reader outside of any group. librdkafka wants a `group.id`; nothing ever joins or commits under it."""
    owned: Properties = {
        **_CONSUMER_LAW,
        "group.id": "streamer.reader",
        "auto.offset.reset": "earliest",
        "max.poll.interval.ms": 86_400_000,  # of no use here, and refused where it is below the session's time
        "queued.max.messages.kbytes": queued_mb * 1000,
        "enable.partition.eof": False,
        "allow.auto.create.topics": False,
    }
    return _properties(kafka, {**_FAST_FETCH, "check.crcs": True}, owned)


def admin_properties(kafka: KafkaConfig) -> Properties:
    """A client that describes and creates topics; unless told otherwise, one that asks for a topic creates it."""
    return _properties(kafka, {}, {"allow.auto.create.topics": False})


def make_consumer(
    properties: Properties, on_error: OnError | None = None, ids: topic_ids.TopicIds | None = None
) -> Consumer:
    """A consumer that logs through `logging`; `ids` listens in. Raises ConfigurationError for a property that
    librdkafka refuses, DependencyError for want of a login token."""
    return _made(Consumer, properties, on_error, ids.logger if ids is not None else _log)


def make_producer(properties: Properties, on_error: OnError | None = None) -> Producer:
    """A producer that logs through `logging`. Raises as `make_consumer` does."""
    return _made(Producer, properties, on_error, _log)


def produce(producer: Producer, *record: Any, **options: Any) -> None:
    """`Producer.produce`, which waits while the client's queue is full."""
    while True:
        try:
            producer.produce(*record, **options)
            return
        except BufferError:
            producer.poll(0.05)


def make_admin(properties: Properties, on_error: OnError | None = None) -> AdminClient:
    """An admin client that logs through `logging`. Raises as `make_consumer` does."""
    return _made(AdminClient, properties, on_error, _log)


def _made(kind: Callable[..., Client], properties: Properties, on_error: OnError | None, log: logging.Logger) -> Client:
    callback: Tokens | None = properties.get("oauth_cb")
    if callback is not None:
        callback.ready(str(properties.get("sasl.oauthbearer.config", "")))
    try:
        with everywhere():
            return kind(_with_callbacks(properties, on_error), logger=log)
    except (KafkaException, SystemError) as error:  # the latter: a client without a token that is told an error as well
        if isinstance(error, KafkaException) and error.args[0].code() != KafkaError.SASL_AUTHENTICATION_FAILED:
            raise _refused(error, properties) from None
        raise DependencyError("kafka.oauth_callback: the client took no token within 10 s; see the log") from None
    except ImportError:
        raise ConfigurationError(
            "kafka.properties.sasl.oauthbearer.metadata.authentication.type: aws_iam needs a package that is not"
            " installed; pip install 'confluent-kafka[oauthbearer-aws]'"
        ) from None


def check_properties(kafka: KafkaConfig) -> None:
    """Let librdkafka judge the user's properties: names, values, and the files that they name. Connects to nothing.

    Raises ConfigurationError.
    """
    # A client without brokers makes no connection, and one without the callback asks nobody for a token.
    unconnected = {**writer_properties(kafka), "bootstrap.servers": ""}
    unconnected.pop("oauth_cb", None)
    make_producer(unconnected).close()


def _properties(kafka: KafkaConfig, defaults: Mapping[str, Any], owned: Mapping[str, Any]) -> Properties:
    given = {name: property_text(value) for name, value in kafka.properties.items()}
    callback = {"oauth_cb": tokens(kafka.oauth_callback)} if kafka.oauth_callback else {}
    return {**_COMMON, **defaults, **given, **owned, **callback, "bootstrap.servers": kafka.bootstrap_servers}


def _with_callbacks(properties: Properties, on_error: OnError | None) -> Properties:
    return {**properties, "error_cb": on_error or ErrorLog()}


class ErrorLog:
    """Logs errors of a client as a whole, each kind at most once in 10 s: librdkafka goes on trying by itself."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def __call__(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._last.get(error.code(), -_QUIET_S) >= _QUIET_S:
            self._last[error.code()] = now
            _log.warning("%s: %s", error.name(), error.str())


def _refused(error: KafkaException, properties: Properties) -> ConfigurationError:
    """librdkafka quotes the value that it refuses: hide what may be a secret."""
    text = error.args[0].str().strip()
    for name, value in properties.items():
        if isinstance(value, str) and not is_harmless(name):
            text = text.replace(f'"{value}"', HIDDEN)
            if value and is_secret(name):
                text = text.replace(value, HIDDEN)
    return ConfigurationError(f"kafka.properties: {text}; correct or remove that property")
