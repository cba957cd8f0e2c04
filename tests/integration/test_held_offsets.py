"""Committed offsets that a transaction holds, as brokers leave them that have lost its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamer.config import load
from streamer.core.pipeline.protocol import Assigned, Input, SourceFailed
from streamer.errors import ExitCode
from streamer.kafka import patience
from streamer.kafka.clients import consumer_properties, make_consumer
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.settled import held_by_transaction
from streamer.kafka.source import KafkaSource
from streamer.kafka.source_policy import SourcePolicy
from tests.acceptance.harness import PIPELINE, Lab, event, wait_for
from tests.conftest import Kafka
from tests.integration.group_offsets import settle

SETTLED, OPEN = 3, 7


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        lab.topics(1)
        lab.produce(event(number) for number in range(10))
        yield lab


@pytest.fixture
def transaction(lab: Lab) -> Iterator[Producer]:
    """An open one that would settle further offsets."""
    settle(lab.bootstrap_servers, lab.group, [TopicPartition(lab.input, 0, SETTLED)])
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "transactional.id": f"{lab.group}.other"})
    member = Consumer({"bootstrap.servers": lab.bootstrap_servers, "group.id": lab.group})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(lab.input, 0, OPEN)], member.consumer_group_metadata(), 30)
    member.close()
    yield producer
    producer.abort_transaction()


@pytest.fixture
def posted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Input]]:
    """What a source says that starts now."""
    monkeypatch.setattr(patience, "BROKER_S", 0.5)
    config = load(lab.config(), {})
    properties = consumer_properties(config.kafka, config.pipelines[PIPELINE], "a")
    facts: list[Input] = []
    held = partial(held_by_transaction, config.kafka, lab.group)
    policy = SourcePolicy([lab.input], group=lab.group)
    source = KafkaSource(partial(make_consumer, properties), policy, facts.append, held)
    source.start()
    try:
        yield facts
    finally:
        source.close(10)


def waits(caplog: pytest.LogCaptureFixture) -> bool:
    return any("waiting for a transaction" in record.getMessage() for record in caplog.records)


def test_a_start_waits_for_an_open_transaction_and_says_so(
    lab: Lab, transaction: Producer, posted: list[Input], caplog: pytest.LogCaptureFixture
) -> None:
    """And reads on from what it settled."""
    with caplog.at_level(logging.WARNING):
        wait_for(lambda: waits(caplog), "the word of what it waits for")
        assert not posted
        transaction.commit_transaction(30)
        wait_for(lambda: any(isinstance(fact, Assigned) for fact in posted), "the partitions")
    transaction.begin_transaction()


def test_one_that_does_not_end_ends_the_start_with_a_way_out(
    lab: Lab, transaction: Producer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A restart may help, and the tool that mends it is named."""
    monkeypatch.setattr(patience, "PATIENCE_S", 2.0)
    posted: list[Input] = request.getfixturevalue("posted")
    wait_for(lambda: posted, "the end")
    (failed,) = posted
    assert isinstance(failed, SourceFailed)
    assert failed.exit_code is ExitCode.DEPENDENCY
    assert lab.group in failed.message
    assert "find-hanging" in failed.message


def test_the_lag_is_told_meanwhile(lab: Lab, transaction: Producer) -> None:
    """Of what is settled."""
    offsets = GroupOffsets(load(lab.config(), {}).kafka)
    assert offsets.committed(lab.group, [(lab.input, 0)]) == {(lab.input, 0): SETTLED}
