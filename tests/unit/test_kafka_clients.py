"""Clients' properties and the meaning of their errors, without a broker."""

from __future__ import annotations

import logging
import sys
import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from streamer.config.load import KafkaConfig, PipelineConfig
from streamer.core.settle.calls import Act
from streamer.errors import ConfigurationError, DependencyError, ExitCode
from streamer.kafka.clients import (
    ErrorLog,
    admin_properties,
    check_properties,
    consumer_properties,
    in_flight_bytes,
    make_admin,
    make_consumer,
    make_producer,
    prefetch_bytes,
    producer_properties,
    reader_properties,
    writer_properties,
)
from streamer.kafka.errors import act_on_consumer, act_on_producer, start_error
from streamer.kafka.sink import KafkaSink
from streamer.kafka.tokens import Tokens

KAFKA = KafkaConfig(bootstrap_servers="127.0.0.1:1")
PIPELINE = PipelineConfig(task="t", model="m", input=["a"], output="b", group="streamer.p")


def test_the_group_member_is_the_slot() -> None:
    """Group, static identity and the values that rebalances rest on."""
    properties = consumer_properties(KAFKA, PIPELINE, "host-0")
    expected = {
        "group.id": "streamer.p",
        "group.instance.id": "host-0",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }
    assert {name: properties[name] for name in expected} == expected


def test_without_static_membership_there_is_no_instance_id() -> None:
    """Fleets that scale often leave the group at once."""
    dynamic = msgspec.structs.replace(PIPELINE, static_membership=False)
    assert "group.instance.id" not in consumer_properties(KAFKA, dynamic, "host-0")


def test_one_budget_bounds_the_prefetch_too() -> None:
    """The client's queue and what is in flight behind it make up the budget."""
    assert prefetch_bytes(64) + in_flight_bytes(64) == 64_000_000
    small, large = (
        consumer_properties(KAFKA, msgspec.structs.replace(PIPELINE, budget_mb=budget), "s") for budget in (1, 1000)
    )
    assert small["queued.max.messages.kbytes"] * 1024 <= prefetch_bytes(1)
    assert large["queued.max.messages.kbytes"] * 1024 <= prefetch_bytes(1000)
    assert small["fetch.message.max.bytes"] <= prefetch_bytes(1)


def test_the_guarantee_chooses_the_producer() -> None:
    """Transactions under the slot's own id for exactly once; an idempotent producer otherwise."""
    once = producer_properties(KAFKA, PIPELINE, "host-0")
    assert (once["transactional.id"], once["transaction.timeout.ms"]) == ("streamer.p.host-0", 10_000)
    least = producer_properties(KAFKA, msgspec.structs.replace(PIPELINE, guarantee="at_least_once"), "host-0")
    assert "transactional.id" not in least
    assert least["enable.idempotence"] is True
    assert (once["retry.backoff.ms"], least["retry.backoff.ms"]) == (1, 5)
    assert once["retry.backoff.max.ms"] == least["retry.backoff.max.ms"] == 50  # an outage is not asked more often
    assert (
        producer_properties(KafkaConfig(properties={"retry.backoff.ms": 9}), PIPELINE, "s")["retry.backoff.ms"] == "9"
    )


def test_the_queue_holds_the_largest_message() -> None:
    """A record over the queue's limit could never be produced."""
    small = msgspec.structs.replace(PIPELINE, budget_mb=1)
    properties = producer_properties(KAFKA, small, "s", batch_bytes=500_000, largest_bytes=20_000_000)
    assert properties["queue.buffering.max.kbytes"] * 1024 > 20_000_000
    assert (properties["batch.size"], properties["message.max.bytes"]) == (500_000, 20_000_000)


def test_user_properties_win_except_over_ours() -> None:
    """What the guarantee rests on stays, even where the configuration was not checked."""
    given = KafkaConfig(
        properties={"session.timeout.ms": 6000, "isolation.level": "x", "socket.keepalive.enable": True}
    )
    properties = consumer_properties(given, PIPELINE, "s")
    assert (properties["session.timeout.ms"], properties["isolation.level"]) == ("6000", "read_committed")
    assert properties["socket.keepalive.enable"] == "true"


def test_no_property_of_ours_makes_librdkafka_raise() -> None:
    """Each dictionary makes a client of its kind."""
    for budget_mb in (1, 64, 65536):
        pipeline = msgspec.structs.replace(PIPELINE, budget_mb=budget_mb)
        make_consumer(consumer_properties(KAFKA, pipeline, "s")).close()
        for guarantee in ("exactly_once", "at_least_once"):
            chosen = msgspec.structs.replace(pipeline, guarantee=guarantee)
            make_producer(producer_properties(KAFKA, chosen, "s", batch_bytes=1_000_000))
    make_consumer(reader_properties(KAFKA)).close()
    make_producer(writer_properties(KAFKA))
    make_admin(admin_properties(KAFKA))


@pytest.mark.parametrize(
    "properties",
    [
        admin_properties(KAFKA),
        reader_properties(KAFKA),
        writer_properties(KAFKA),
        consumer_properties(KAFKA, PIPELINE, "a"),
        producer_properties(KAFKA, PIPELINE, "a"),
    ],
)
def test_no_client_creates_a_topic_by_asking_for_it(properties: dict[str, Any]) -> None:
    """A broker that is asked for a topic would make it with partitions, retention and rights that nobody chose."""
    assert properties["allow.auto.create.topics"] is False


def test_a_property_that_librdkafka_refuses_is_named_and_its_value_hidden() -> None:
    """Names and values are judged by librdkafka itself; its words may quote a secret."""
    with pytest.raises(ConfigurationError, match=r"no\.such\.property"):
        check_properties(KafkaConfig(properties={"no.such.property": "x"}))
    with pytest.raises(ConfigurationError) as caught:
        check_properties(KafkaConfig(properties={"sasl.oauthbearer.grant.type": "hunter2"}))
    assert "hunter2" not in str(caught.value)


def test_an_outage_is_logged_once_a_kind(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of attempts to connect make one line, not hundreds."""
    log = ErrorLog()
    with caplog.at_level(logging.WARNING, "streamer.kafka.client"):
        for _ in range(100):
            log(KafkaError(KafkaError._TRANSPORT, "down"))
        log(KafkaError(KafkaError._RESOLVE, "unknown host"))
    assert [record.getMessage() for record in caplog.records] == ["_TRANSPORT: down", "_RESOLVE: unknown host"]


@pytest.mark.case(6, 14)
@pytest.mark.parametrize(
    ("error", "act"),
    [
        (KafkaError(KafkaError._FENCED, "", fatal=True), Act.FENCED),
        (KafkaError(KafkaError.INVALID_PRODUCER_EPOCH), Act.FENCED),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, txn_requires_abort=True), Act.DENIED),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), Act.TOO_LARGE),
        (KafkaError(KafkaError._PURGE_QUEUE), Act.IGNORE),
        (KafkaError(KafkaError.UNKNOWN, "", fatal=True, retriable=True), Act.REBUILD),
        (KafkaError(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True), Act.STALE),
        (KafkaError(KafkaError._TIMED_OUT, retriable=True), Act.RETRY),
        (KafkaError(KafkaError.NOT_COORDINATOR, retriable=True), Act.RETRY),
        (KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, retriable=True), Act.RETRY),
        (KafkaError(KafkaError.CONCURRENT_TRANSACTIONS, retriable=True), Act.RETRY),
        (KafkaError(KafkaError.NOT_ENOUGH_REPLICAS, txn_requires_abort=True), Act.ABORT),
        (KafkaError(KafkaError._STATE), Act.REBUILD),
    ],
)
def test_what_to_do_after_a_producers_error(error: KafkaError, act: Act) -> None:
    """librdkafka's algebra, with what has a meaning of its own taken out first."""
    assert act_on_producer(error) is act
    assert act_on_producer(KafkaException(error)) is act


@pytest.mark.parametrize(
    ("error", "act"),
    [
        (KafkaError(KafkaError._FATAL, "Fatal error: Broker: Static consumer fenced by other consumer"), Act.FENCED),
        (KafkaError(KafkaError._FATAL, "something else"), Act.REBUILD),
        (KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), Act.DENIED),
        (KafkaError(KafkaError._AUTO_OFFSET_RESET), Act.OUT_OF_RANGE),
        (KafkaError(KafkaError._TRANSPORT), Act.RETRY),
        (KafkaError(KafkaError._MAX_POLL_EXCEEDED), Act.RETRY),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), Act.RETRY),
    ],
)
def test_what_to_do_after_a_consumers_error(error: KafkaError, act: Act) -> None:
    """An outage is waited out; a newer owner of the slot and a missing right are not."""
    assert act_on_consumer(error) is act


@pytest.mark.parametrize(
    ("code", "kind", "exit_code", "words"),
    [
        (KafkaError._TRANSPORT, DependencyError, ExitCode.DEPENDENCY, ["broker:9092", "bootstrap_servers"]),
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            ConfigurationError,
            ExitCode.CONFIGURATION,
            ["Write", "--topic reviews", "kafka-acls"],
        ),
        (KafkaError._AUTHENTICATION, ConfigurationError, ExitCode.CONFIGURATION, ["login", "sasl.password"]),
        (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            ConfigurationError,
            ExitCode.CONFIGURATION,
            ["topic reviews", "topics create"],
        ),
    ],
)
def test_errors_at_start_say_what_where_and_how_to_mend(
    code: int, kind: type[Exception], exit_code: ExitCode, words: list[str]
) -> None:
    """The operator reads the address, the topic or right, and the next step."""
    error = start_error(KafkaError(code), address="broker:9092", operation="Write", resource="topic reviews")
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert all(word in str(error) for word in [*words, "broker:9092"])


def test_a_client_that_lacks_a_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """confluent-kafka's own extra for tokens of AWS."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    properties: dict[str, str | int | float | bool] = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.metadata.authentication.type": "aws_iam",
        "sasl.oauthbearer.config": "region=eu-west-1,audience=https://example.com",
    }
    with pytest.raises(ConfigurationError, match=r"pip install 'confluent-kafka\[oauthbearer-aws\]'"):
        check_properties(KafkaConfig(properties=properties))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ConfigurationError),
        (KafkaError._TIMED_OUT, DependencyError),
        (KafkaError.COORDINATOR_NOT_AVAILABLE, DependencyError),
        (KafkaError.UNSUPPORTED_VERSION, DependencyError),
    ],
)
def test_a_cluster_without_transactions_is_told_what_to_write(code: int, kind: type[Exception]) -> None:
    """However it says so; and nobody else is."""
    error = start_error(KafkaError(code), address="b:1", operation="Write", resource="transactional-id g.0")
    assert type(error) is kind
    assert str(error).endswith('or, where the cluster has none, write guarantee = "at_least_once" for the pipeline')
    other = start_error(KafkaError(code), address="b:1", operation="Read", resource="topic t")
    assert "at_least_once" not in str(other)


def test_a_right_that_was_taken_away_is_named_by_topics() -> None:
    """A transaction does not say which of its topics it may not write to: the command names all of them, and does not
    give rights to the whole cluster."""
    code = KafkaError.TOPIC_AUTHORIZATION_FAILED
    error = start_error(KafkaError(code), address="b:1", operation="Write", resource="topics out, out.dlq")
    assert "denies the right to Write topics out, out.dlq (TOPIC_AUTHORIZATION_FAILED)" in str(error)
    assert str(error).endswith("--operation Write --topic out --topic out.dlq")
    sink: Any = SimpleNamespace(_group="g", _refused={}, _topics=SimpleNamespace(names=["out.dlq", "out"]))
    assert KafkaSink._denied(sink, KafkaError(code)) == ("Write", "topics out, out.dlq")
    sink._refused = {("out", 1): KafkaError(code)}
    assert KafkaSink._denied(sink, KafkaError(code)) == ("Write", "topic out")


def test_a_name_that_no_topic_can_have_is_no_outage() -> None:
    """A restart would not help: the name is what has to change."""
    error = start_error(KafkaError(KafkaError.TOPIC_EXCEPTION), address="broker:9092", resource="topic my topic")
    assert type(error) is ConfigurationError
    assert str(error).startswith("'my topic' can't be a topic: a topic's name has letters")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("error:0A000086:SSL routines::certificate verify failed", ConfigurationError),
        ("error:0A000126:SSL routines::unexpected eof while reading", DependencyError),
        ("Connection refused", DependencyError),
    ],
)
def test_a_failed_handshake_is_known_by_its_words_too(reason: str, kind: type[Exception]) -> None:
    """It comes as a transport failure at times; one that a dying broker cut off is an outage."""
    error = start_error(KafkaError(KafkaError._TRANSPORT, reason), address="broker:9092")
    assert type(error) is kind
    assert ("ssl.ca.location" in str(error)) is (kind is ConfigurationError)


def test_a_login_function_is_given_a_text_where_no_property_is_set() -> None:
    """librdkafka gives None then: a function that splits its text would fail, at the first renewal."""
    given: list[object] = []

    def function(config: str) -> tuple[str, float]:
        given.append(config)
        return "token", time.time() + 100

    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "oauth_cb": Tokens(function)}
    Producer({"bootstrap.servers": "", **login}).close()
    assert given == [""]


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (
            KafkaError._AUTHENTICATION,
            "SASL PLAIN mechanism handshake failed: broker's supported mechanisms: SCRAM-SHA-256",
            "does not know this sasl.mechanism; it offers SCRAM-SHA-256; set one of them",
        ),
        (
            KafkaError._AUTHENTICATION,
            "SASL PLAIN mechanism handshake failed: broker's supported mechanisms: ",
            "asks for no login at this address; set security.protocol to PLAINTEXT or SSL",
        ),
        (
            KafkaError._TRANSPORT,
            "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
            "correct kafka.bootstrap_servers and security.protocol",
        ),
        (KafkaError._BAD_MSG, "Invalid response size 1397966893", "what answers there is no Kafka"),
    ],
)
def test_what_is_wrong_with_an_address_or_a_login_is_told(code: int, text: str, words: str) -> None:
    """In place of the client's own guess."""
    assert words in str(start_error(KafkaError(code, text), address="broker:9092"))
