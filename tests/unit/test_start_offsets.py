"""Where a partition is read from, and how long the answer is waited for, against a scripted client."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamer.kafka.source import requests
from streamer.kafka.source.requests import Patience, first_offsets, first_partitions, start_offsets
from tests.scripted_consumer import Key, Partition, ScriptedConsumer

OLD: Key = ("in", 0)  # committed
NEW: Key = ("in", 1)  # not


class Client(ScriptedConsumer):
    """Knows when records came, and fails as often as it is told."""

    def __init__(self, partitions: dict[Key, Partition], failures: int = 0, code: int = KafkaError._TRANSPORT) -> None:
        super().__init__(partitions)
        self.failures, self._code = failures, code

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        if self.failures:
            self.failures -= 1
            raise KafkaException(KafkaError(self._code))
        return super().committed(partitions, timeout)

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """The record at offset n came at time 100 n."""
        high = self.partitions[asked[0].topic, asked[0].partition].high
        found = -(-asked[0].offset // 100)
        return [TopicPartition(asked[0].topic, asked[0].partition, found if found < high else -1)]


def client(**options: Any) -> Client:
    made = Client({OLD: Partition([b"x"] * 6), NEW: Partition([b"x"] * 4, low=3)}, **options)
    made.offsets[OLD] = (4, "a note")
    return made


def patience(*, held: bool = False) -> Patience:
    return Patience(lambda _: None, lambda _: held)


def starts(made: Any, start: str | int, *first: Key) -> dict[Key, int]:
    asked = [TopicPartition(*key) for key in made.partitions]
    found, fresh = start_offsets(made, asked, start, frozenset(first), patience())
    assert [(one.topic, one.partition) for one in fresh] == [NEW]
    assert [one.metadata for one in found if (one.topic, one.partition) == OLD] == ["a note"]
    return {(one.topic, one.partition): one.offset for one in found}


@pytest.mark.parametrize(
    ("start", "first", "offset"),
    [
        ("earliest", [NEW], 3),
        ("latest", [NEW], 7),
        ("latest", [], 3),  # it came when the group was there: nothing of it may be missed
        (450, [NEW], 5),
        (5_000, [NEW], 7),  # nothing is as young
    ],
)
def test_what_has_no_offset_begins_as_configured(start: str | int, first: list[Key], offset: int) -> None:
    """What has one goes on there, with its note."""
    assert starts(client(), start, *first) == {OLD: 4, NEW: offset}


def test_of_no_partition_nothing_is_asked() -> None:
    """An assignment may be empty."""
    assert start_offsets(client(failures=1), [], "earliest", frozenset(), patience()) == ([], [])  # type: ignore[arg-type]


def test_the_first_partitions_are_those_of_a_topic_without_any_offset() -> None:
    """Of a topic that the group has read before, a partition without one came later."""
    made = client()
    assert first_partitions(made, ["in"], patience()) == frozenset()  # type: ignore[arg-type]
    made.offsets.clear()
    assert first_partitions(made, ["in"], patience()) == {OLD, NEW}  # type: ignore[arg-type]
    there = first_offsets(made, [NEW, ("in", 7)], 1.0)  # type: ignore[arg-type]
    assert [(one.topic, one.partition, one.offset) for one in there] == [(*NEW, 3)]


def test_brokers_that_are_away_for_a_moment_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what does not pass by itself is raised at once."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    made = client(failures=3)
    assert starts(made, "earliest", NEW) == {OLD: 4, NEW: 3}
    denied = client(failures=3, code=KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        starts(denied, "earliest", NEW)
    assert denied.failures == 2


@pytest.mark.parametrize("held", [False, True])
def test_it_gives_up_at_last_and_says_what_holds_the_offsets(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """A transaction that does not end is another failure than brokers that do not answer."""
    monkeypatch.setattr(requests, "PATIENCE_S", -1.0)
    with pytest.raises(KafkaException) as raised:
        patience(held=held).committed(client(failures=1), [TopicPartition(*OLD)])  # type: ignore[arg-type]
    assert isinstance(raised.value, requests.HeldOffsetsError) is held
