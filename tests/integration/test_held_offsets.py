"""Committed offsets that a transaction holds, as brokers leave them that have lost its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamer.config import load
from streamer.core.encoder import Encoder, OutputLimits
from streamer.core.pipeline.protocol import Assigned, Input, ModelCard, Settle, SinkFailed, SourceFailed
from streamer.core.plan_encoder import PlanEncoder
from streamer.errors import ExitCode
from streamer.kafka import patience
from streamer.kafka.clients import consumer_properties, make_consumer, producer_properties
from streamer.kafka.early_producer import EarlyProducer
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.output_limits import DEFAULT_MESSAGE_BYTES
from streamer.kafka.settled import held_by_transaction
from streamer.kafka.source import KafkaSource
from streamer.kafka.source_policy import SourcePolicy
from streamer.kafka.transactional_sink import TransactionalSink
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


@contextmanager
def opened(lab: Lab) -> Iterator[Producer]:
    """A transaction that would settle further offsets."""
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "transactional.id": f"{lab.group}.other"})
    onlooker = Consumer({"bootstrap.servers": lab.bootstrap_servers, "group.id": lab.group})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(lab.input, 0, OPEN)], onlooker.consumer_group_metadata(), 30)
    onlooker.close()
    yield producer
    producer.abort_transaction()


@pytest.fixture
def transaction(lab: Lab) -> Iterator[Producer]:
    """An open one, behind offsets that are settled."""
    settle(lab.bootstrap_servers, lab.group, [TopicPartition(lab.input, 0, SETTLED)])
    with opened(lab) as producer:
        yield producer


class Reading(NamedTuple):
    """A source that has started, and what it says."""

    source: KafkaSource
    posted: list[Input]


@pytest.fixture
def reading(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    monkeypatch.setattr(patience, "BROKER_S", 0.5)
    config = load(lab.config(), {})
    properties = consumer_properties(config.kafka, config.pipelines[PIPELINE], "a")
    posted: list[Input] = []
    held = partial(held_by_transaction, config.kafka, lab.group)
    policy = SourcePolicy([lab.input], group=lab.group)
    source = KafkaSource(partial(make_consumer, properties), policy, posted.append, held)
    source.start()
    try:
        yield Reading(source, posted)
    finally:
        source.close(10)


def waits(caplog: pytest.LogCaptureFixture) -> bool:
    return any("waiting for a transaction" in record.getMessage() for record in caplog.records)


def test_a_start_waits_for_an_open_transaction_and_says_so(
    lab: Lab, transaction: Producer, reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    """And reads on from what it settled."""
    with caplog.at_level(logging.WARNING):
        wait_for(lambda: waits(caplog), "the word of what it waits for")
        assert not reading.posted
        transaction.commit_transaction(30)
        wait_for(lambda: any(isinstance(fact, Assigned) for fact in reading.posted), "the partitions")
    transaction.begin_transaction()


def test_one_that_does_not_end_ends_the_start_with_a_way_out(
    lab: Lab, transaction: Producer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A restart may help, and the tool that mends it is named."""
    monkeypatch.setattr(patience, "PATIENCE_S", 2.0)
    reading: Reading = request.getfixturevalue("reading")
    wait_for(lambda: reading.posted, "the end")
    (failed,) = reading.posted
    assert isinstance(failed, SourceFailed)
    assert failed.exit_code is ExitCode.DEPENDENCY
    assert lab.group in failed.message
    assert "find-hanging" in failed.message


def test_the_lag_is_told_meanwhile(lab: Lab, transaction: Producer) -> None:
    """Of what is settled."""
    offsets = GroupOffsets(load(lab.config(), {}).kafka)
    assert offsets.committed(lab.group, [(lab.input, 0)]) == {(lab.input, 0): SETTLED}


def test_a_sink_whose_own_commit_was_unclear_does_not_ask_for_ever(
    lab: Lab, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partitions never left, so that no start is held: the same way out is told."""
    monkeypatch.setattr(patience, "PATIENCE_S", 2.0)
    config = load(lab.config(), {})
    properties = partial(producer_properties, config.kafka, config.pipelines[PIPELINE], "a")
    limits: Future[dict[str, int]] = Future()
    limits.set_result({lab.output: DEFAULT_MESSAGE_BYTES})
    producers = EarlyProducer(limits, lambda batch, largest: properties(batch_bytes=batch, largest_bytes=largest))
    posted: list[Input] = []
    sink = TransactionalSink(producers, posted.append, lab.bootstrap_servers, transactional_id=f"{lab.group}.a")
    limit = OutputLimits(DEFAULT_MESSAGE_BYTES, DEFAULT_MESSAGE_BYTES)
    card = ModelCard("m", "1", "null", "float32", "none")
    encoder = Encoder(
        pipeline=PIPELINE,
        task="null",
        card=card,
        output_topic=lab.output,
        dead_letter_topic=lab.dead_letter,
        limits=limit,
    )
    sink.attach(reading.source, lambda _: PlanEncoder(encoder))
    sink.connect()
    try:
        wait_for(lambda: any(isinstance(fact, Assigned) for fact in reading.posted), "the partitions")
        sink.open(card)
        Producer(dict(properties())).init_transactions(30)  # fences the sink
        with opened(lab):
            sink.settle(Settle(1, [], {(lab.input, 0): OPEN}, reading.source.ownership.epochs))
            wait_for(lambda: posted, "the end")
            (failed,) = posted
            assert isinstance(failed, SinkFailed)
            assert failed.exit_code is ExitCode.DEPENDENCY
            assert lab.group in failed.message
            assert "find-hanging" in failed.message
    finally:
        sink.close(10)
