"""Committed offsets that a transaction holds, as brokers leave them that have lost its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamer.config.load import load
from streamer.core.pipeline.protocol import SinkFailed, SourceFailed
from streamer.core.settle import exactly_once
from streamer.errors import ExitCode
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.source import requests
from tests.acceptance.harness import Lab, event, wait_for
from tests.conftest import Kafka
from tests.integration.bare_ends import Reading, reading, settling
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


@pytest.fixture
def source(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    monkeypatch.setattr(requests, "BROKER_S", 0.5)
    with reading(lab) as source:
        yield source


def waits(caplog: pytest.LogCaptureFixture) -> bool:
    return any("waiting for a transaction" in record.getMessage() for record in caplog.records)


def test_a_start_waits_for_an_open_transaction_and_says_so(
    lab: Lab, transaction: Producer, source: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    """And reads on from what it settled."""
    with caplog.at_level(logging.WARNING):
        wait_for(lambda: waits(caplog), "the word of what it waits for")
        assert not source.posted
        transaction.commit_transaction(30)
        source.await_partitions()
    transaction.begin_transaction()


def test_one_that_does_not_end_ends_the_start_with_a_way_out(
    lab: Lab, transaction: Producer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A restart may help, and the tool that fixes it is named."""
    monkeypatch.setattr(requests, "PATIENCE_S", 2.0)
    source: Reading = request.getfixturevalue("source")
    wait_for(lambda: source.posted, "the end")
    (failed,) = source.posted
    assert isinstance(failed, SourceFailed)
    assert failed.exit_code is ExitCode.DEPENDENCY
    assert lab.group in failed.message
    assert "find-hanging" in failed.message


def test_the_lag_is_told_meanwhile(lab: Lab, transaction: Producer) -> None:
    """Of what is settled."""
    offsets = GroupOffsets(load(lab.config(), {}).kafka)
    assert offsets.committed(lab.group, [(lab.input, 0)]) == {(lab.input, 0): SETTLED}


def test_a_sink_whose_own_commit_was_unclear_does_not_ask_for_ever(
    lab: Lab, source: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partitions never left, so that no start is held: the same way out is told."""
    monkeypatch.setattr(exactly_once, "WITHHELD_AFTER_S", 2.0)
    with settling(lab, source.source) as sink:
        source.await_partitions()
        sink.open()
        Producer(dict(sink.made[0])).init_transactions(30)  # fences the sink's
        with opened(lab):
            failed = sink.settle(OPEN)
            assert isinstance(failed, SinkFailed)
            assert failed.exit_code is ExitCode.DEPENDENCY
            assert lab.group in failed.message
            assert "find-hanging" in failed.message
