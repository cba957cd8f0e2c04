"""Which members had what when a process starts, and which of those live that a note counts as dead."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streamer.config.load import KafkaConfig
from streamer.core.pipeline.attempts import Attempts, Mark
from streamer.core.record import TopicPartition
from streamer.kafka.former_owners import FormerOwners
from tests.conftest import Kafka

LIMIT = 3
SESSION_MS = 6_000


@pytest.mark.case(66)
def test_who_lives_is_told_from_who_is_dead(kafka: Kafka) -> None:
    """Both are members for as long as a session lasts. At the limit, and only there, it is waited for."""
    topic = f"former{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    living, dead, below = (member(kafka, topic, f"{topic}.{name}", LIMIT - 1) for name in ("living", "dead", "below"))
    note(below, topic, LIMIT - 2)
    dead.close()  # a static member is one until its session times out
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)
    asked = [FormerOwners(config, f"{topic}.{name}", LIMIT, SESSION_MS) for name in ("living", "dead", "below")]
    began = time.monotonic()
    third = asked[2]()
    assert time.monotonic() - began < SESSION_MS / 1000
    first, second = asked[0](), asked[1]()
    assert first.owners == {(topic, 0): living.memberid()}
    assert first.alive == {living.memberid()}
    assert set(second.owners) == {(topic, 0)} and not second.alive
    assert third.owners == {(topic, 0): below.memberid()} and not third.alive
    living.close()
    below.close()


def member(kafka: Kafka, topic: str, group: str, others: int) -> Consumer:
    """A static member that has the topic's partition and has noted itself beside so many others."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": group,
            "group.instance.id": "slot",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 500,
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    while not consumer.assignment():
        consumer.poll(0.1)
    note(consumer, topic, others)
    return consumer


def note(consumer: Consumer, topic: str, others: int) -> None:
    """Commit what the last of so many others and this one would."""
    committed: dict[TopicPartition, Mark] = {(topic, 0): (0, '{"owner":"x"}')}
    for name in (*map(str, range(others)), consumer.memberid()):
        attempts = Attempts(100)
        attempts.joined(name or "")
        attempts.assigned(committed, 0.0)
        committed = attempts.marks({(topic, 0): 0})
    offset, metadata = committed[topic, 0]
    consumer.commit(offsets=[KafkaPartition(topic, 0, offset, metadata)], asynchronous=False)
