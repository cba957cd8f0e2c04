"""What the source's unit tests lean on: their scripted client and the real one behave alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.scripted_consumer import Key, Partition, ScriptedConsumer, assigned

PATIENCE_S = 30.0
QUIET_S = 0.3


class Bed(Protocol):
    """A topic of two partitions, of which the first has four records, and a client that has not joined yet."""

    topic: str
    client: Any

    def delete_before(self, offset: int) -> None: ...
    def close(self) -> None: ...


class ScriptedBed:
    def __init__(self) -> None:
        self.topic = "t"
        self._first = Partition([b"0", b"1", b"2", b"3"])
        self.client = ScriptedConsumer({("t", 0): self._first, ("t", 1): Partition()}, eof=True)
        self.client.play(assigned(("t", 0), ("t", 1)))

    def delete_before(self, offset: int) -> None:
        self._first.values, self._first.low = self._first.values[offset - self._first.low :], offset

    def close(self) -> None:
        self.client.close()


class KafkaBed:
    def __init__(self, bootstrap_servers: str) -> None:
        servers = {"bootstrap.servers": bootstrap_servers}
        self.topic = f"scripted-{uuid4().hex[:8]}"
        self._admin = AdminClient(servers)
        self._admin.create_topics([NewTopic(self.topic, 2)])[self.topic].result(PATIENCE_S)
        writer = Producer(servers)
        for number in range(4):
            writer.produce(self.topic, str(number).encode(), partition=0)
        assert writer.flush(PATIENCE_S) == 0
        self.client = Consumer(
            {
                **servers,
                "group.id": self.topic,
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
            }
        )

    def delete_before(self, offset: int) -> None:
        for future in self._admin.delete_records([TopicPartition(self.topic, 0, offset)]).values():
            future.result(PATIENCE_S)

    def close(self) -> None:
        with suppress(RuntimeError):  # it was closed by the test
            self.client.close()
        self._admin.delete_topics([self.topic])[self.topic].result(PATIENCE_S)


@pytest.fixture(params=["scripted", "kafka"])
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    scripted = request.param == "scripted"
    made: Bed = ScriptedBed() if scripted else KafkaBed(request.getfixturevalue("kafka").bootstrap_servers)
    yield made
    made.close()


Given = tuple[int, int | str]
"""A partition, and the offset of a record, or the name of an error."""


def take(client: Any, count: int) -> list[Given]:
    """So many records or errors."""
    found: list[Given] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, found
        message = client.poll(0.1)
        if message is not None:
            error = message.error()
            found.append((message.partition(), message.offset() if error is None else error.name()))
    return found


def is_quiet(client: Any) -> bool:
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        if client.poll(0.05) is not None:
            return False
    return True


def test_the_scripted_client_does_what_the_real_one_does(bed: Bed) -> None:
    """What is given after an assignment, a pause, a seek and at a place that is not there; what is committed; and that
    a close gives everything back first."""
    client, topic = bed.client, bed.topic
    story: list[tuple[str, list[Key]]] = []
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)

    def on_assign(consumer: Any, given: list[TopicPartition]) -> None:
        story.append(("assigned", sorted((one.topic, one.partition) for one in given)))
        consumer.incremental_assign([TopicPartition(topic, 0, 1), TopicPartition(topic, 1, 0)])
        assert [one.offset for one in consumer.position([first, second])] == [OFFSET_INVALID] * 2

    def on_revoke(_: Any, given: list[TopicPartition]) -> None:
        story.append(("revoked", sorted((one.topic, one.partition) for one in given)))

    client.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_revoke)
    given = take(client, 5)
    assert [one for one in given if one[0] == 0] == [(0, 1), (0, 2), (0, 3), (0, "_PARTITION_EOF")]
    assert [one for one in given if one[0] == 1] == [(1, "_PARTITION_EOF")]
    assert story == [("assigned", [(topic, 0), (topic, 1)])]
    assert client.position([first])[0].offset == 4

    client.seek(TopicPartition(topic, 0, 2))
    assert take(client, 3) == [(0, 2), (0, 3), (0, "_PARTITION_EOF")]

    client.pause([first])
    client.seek(TopicPartition(topic, 0, 3))
    assert is_quiet(client)
    client.incremental_unassign([first])
    client.incremental_assign([TopicPartition(topic, 0, 3)])
    assert is_quiet(client), "a partition that was paused stays so over a new assignment"
    client.resume([first])
    assert take(client, 2) == [(0, 3), (0, "_PARTITION_EOF")]

    with pytest.raises(KafkaException) as refused:
        client.seek(TopicPartition(topic, 7, 0))
    assert refused.value.args[0].code() in (KafkaError._STATE, KafkaError._UNKNOWN_PARTITION)

    client.commit(offsets=[TopicPartition(topic, 0, 3, "a note")], asynchronous=False)
    there = client.committed([first, second], timeout=PATIENCE_S)
    assert [(one.offset, one.metadata or "") for one in there] == [(3, "a note"), (OFFSET_INVALID, "")]

    bed.delete_before(2)
    client.incremental_unassign([first])
    client.incremental_assign([TopicPartition(topic, 0, 1)])
    assert take(client, 1) == [(0, "_AUTO_OFFSET_RESET")]
    assert is_quiet(client)
    client.incremental_unassign([first])
    client.incremental_assign([TopicPartition(topic, 0, 2)])
    assert take(client, 3) == [(0, 2), (0, 3), (0, "_PARTITION_EOF")]
    assert client.get_watermark_offsets(first, timeout=PATIENCE_S) == (2, 4)

    client.close()
    assert story[1:] == [("revoked", [(topic, 0), (topic, 1)])]
