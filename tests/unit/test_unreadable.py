"""What the client says and gives after a checksum that does not match is thrown away.

A damaged batch needs a broker's disk, so that here the client's answers are as they were seen (librdkafka 2.16.0).
"""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.core import obstacles
from streamer.core.intake import Intake, SourcePolicy
from streamer.core.membership import Membership
from streamer.core.pipeline.attempts import Attempts
from streamer.core.pipeline.protocol import Input
from streamer.core.standing import Reason
from streamer.kafka.source.assignment import Assignment
from streamer.kafka.source.calls import Calls, Pauses
from streamer.kafka.source.messages import Messages
from streamer.kafka.source.watch import Watch

KEY = ("in", 0)


class Message:
    def __init__(self, offset: int, code: int | None = None) -> None:
        self._offset = offset
        self._code = code

    def topic(self) -> str:
        return KEY[0]

    def partition(self) -> int:
        return KEY[1]

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return None if self._code is None else KafkaError(self._code)


class Client:
    """Notes where it is told to read."""

    def __init__(self) -> None:
        self.read_from: list[int] = []

    def incremental_unassign(self, partitions: list[KafkaPartition]) -> None: ...

    def incremental_assign(self, partitions: list[KafkaPartition]) -> None:
        self.read_from += [one.offset for one in partitions]


def reading(reached: int) -> tuple[Messages, list[Input]]:
    posted: list[Input] = []
    attempts = Attempts(6)
    ours = Membership(attempts, revoke_deadline_s=1.0)
    ours.epochs[KEY], ours.reached[KEY] = 1, reached
    assignment = Assignment(
        ours,
        Calls(),
        posted.append,
        start="earliest",
        changed=lambda: None,
        beat=lambda _: None,
        held=lambda _: False,
        ends_of=lambda _: {},
    )
    policy = SourcePolicy(["in"], group="g", address="a:1")
    intake = Intake(policy, ours, attempts)
    watch = Watch(policy, ours, intake, Pauses(ours.epochs), None)
    return Messages(policy, intake, watch, assignment, Calls(), posted.append), posted


@pytest.mark.case(46)
def test_what_follows_a_checksum_that_does_not_match_is_thrown_away() -> None:
    """The client reads on at a place that means nothing: whether it is told to be out of range there, or finds records
    there, we stand where the batch begins."""
    errors, posted = reading(reached=90)
    client: Any = Client()
    found = {KEY: [Message(offset) for offset in (90, 99, 5_000)]}
    for message in (
        Message(100, KafkaError._BAD_MSG),
        Message(100, KafkaError._BAD_MSG),
        Message(8_473_013_702_730_252_357, KafkaError._NOT_IMPLEMENTED),
        Message(8_473_013_702_730_252_358, KafkaError._AUTO_OFFSET_RESET),
    ):
        errors._on_error(client, message, {KEY: 1}, found)
    assert [record.offset() for record in found[KEY]] == [90, 99]
    assert client.read_from == [100]
    assert errors._unreadable.held == {KEY}
    (one,) = errors._unreadable.standing()
    assert (one.partition, one.offset, one.reason) == (KEY, 100, Reason.UNREADABLE)
    assert not posted


@pytest.mark.case(46)
def test_within_a_batch_we_stand_at_our_own_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the batch's first: what is settled of it must not be read again. It is tried again in time, and forgotten
    once it gives records."""
    errors, _ = reading(reached=150)
    client: Any = Client()
    errors._on_error(client, Message(100, KafkaError._BAD_COMPRESSION), {KEY: 1}, {})
    assert client.read_from == [150]
    assert [one.offset for one in errors._unreadable.standing()] == [150]
    errors._unreadable.gave([KEY])  # of before
    assert errors._unreadable.held == {KEY}
    errors._unreadable.retry(float("inf"))
    assert not errors._unreadable.held and errors._unreadable.standing()
    errors._unreadable.gave([KEY])
    assert not errors._unreadable.standing()


def test_one_that_is_no_longer_ours_is_forgotten() -> None:
    errors, _ = reading(reached=0)
    client: Any = Client()
    errors._on_error(client, Message(0, KafkaError._BAD_MSG), {KEY: 1}, {})
    errors._unreadable.keep({("in", 1): 2}.keys())
    assert not errors._unreadable.standing()
    assert obstacles.RETRY_S >= 30  # each try makes the client complain some twenty times


def test_errors_that_pass_are_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """With their number, each kind and place for itself."""
    errors, _ = reading(reached=0)
    client: Any = Client()
    for _ in range(1_000):
        errors._on_error(client, Message(0, KafkaError._TRANSPORT), {KEY: 1}, {})
    errors._on_error(client, Message(0, KafkaError._TIMED_OUT), {KEY: 1}, {})
    assert len(caplog.records) == 2
    errors._say(KafkaError(KafkaError._TRANSPORT), KEY, float("inf"))
    assert caplog.records[-1].__dict__["data"] == {"error": "_TRANSPORT", "topic": "in", "partition": 0, "count": 1_000}
