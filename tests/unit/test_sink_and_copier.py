"""What the Kafka sink says of a settle, and what a copier makes again, without a broker."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.config.fields import KafkaConfig
from streamer.core.pipeline.protocol import Unsettled
from streamer.kafka import replay
from streamer.kafka.idempotent_sink import IdempotentSink
from streamer.kafka.replay import TransactionalCopier


def test_a_settle_that_is_rolled_back_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """A failed delivery is no failed call, so that nobody else names it."""

    def steps() -> Generator[Any, Any, Unsettled]:
        yield from ()
        return Unsettled(1, "delivery", error="_MSG_TIMED_OUT")

    sink = IdempotentSink(Mock(), Mock(), Mock(), Mock(), Mock(), "here:9092", group="g")
    with caplog.at_level(logging.WARNING):
        sink._work(Mock(), steps())
    (line,) = caplog.records
    assert line.__dict__["data"] == {"reason": "delivery", "error": "_MSG_TIMED_OUT"}


def test_a_copier_makes_again_what_a_rebalance_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other transaction that can only be aborted."""
    producer = Mock()
    monkeypatch.setattr(replay, "make_producer", lambda _: producer)
    moved = KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS, "", txn_requires_abort=True))
    producer.commit_transaction.side_effect = [moved, None]
    copier = TransactionalCopier(KafkaConfig(), "topic", [1_000_000])
    copier.commit([])
    assert producer.abort_transaction.call_count == 1
    assert producer.begin_transaction.call_count == 2
