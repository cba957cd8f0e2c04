"""A producer that librdkafka leaves hanging once its brokers have been away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streamer.core.pipeline.protocol import Settled, Unsettled
from streamer.kafka import producers, transactional_sink
from streamer.local import Stack
from tests.acceptance.harness import Lab, wait_for
from tests.conftest import Kafka
from tests.integration.bare_ends import reading, settling


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The first `send_offsets_to_transaction` of all producers hangs until this is set. In librdkafka about one in six
    does so after an outage: too few for a test."""
    goes_on, first = threading.Event(), threading.Lock()

    class HangingProducer(Producer):
        def send_offsets_to_transaction(self, *args: Any) -> None:
            if first.acquire(blocking=False):
                goes_on.wait()
            super().send_offsets_to_transaction(*args)

    monkeypatch.setattr(producers, "make_producer", lambda properties, _: HangingProducer(properties))
    yield goes_on
    goes_on.set()


def test_a_call_that_hangs_is_left_behind(
    kafka: Kafka, tmp_path: Path, hangs: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan comes to nothing and another producer settles it. The call that comes back after all changes nothing."""
    monkeypatch.setattr(transactional_sink, "HUNG_S", 0.5)
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        lab.topics(1)
        with reading(lab) as source, settling(lab, source.source) as sink:
            source.await_partitions()
            sink.open()
            left = sink.sink._thread
            outcome = sink.settle(3)
            assert isinstance(outcome, Unsettled)
            assert (outcome.reason, outcome.committed) == ("rebuild", {(lab.input, 0): 0})
            assert isinstance(sink.settle(5), Settled)
            hangs.set()
            wait_for(lambda: not left.is_alive(), "the call to come back")
            assert isinstance(sink.settle(7), Settled)
            assert sink.silent
            assert lab.committed() == 7


@pytest.mark.slow
@pytest.mark.case(10)
def test_a_producer_that_lost_all_brokers_is_not_used_again(tmp_path: Path) -> None:
    """Also where no plan was under way meanwhile."""
    with Stack.start(redis=False) as stack, Lab(stack.bootstrap_servers, tmp_path) as lab:
        (broker,) = stack.kafka_processes
        lab.topics(1)
        with reading(lab) as source, settling(lab, source.source) as sink:
            source.await_partitions()
            sink.open()
            assert isinstance(sink.settle(3), Settled)
            before = len(sink.made)
            assert isinstance(sink.settle(5), Settled)
            assert len(sink.made) == before
            broker.kill()
            broker.launch()
            broker.wait_ready()
            wait_for(lambda: isinstance(sink.settle(7), Settled), "a plan that is settled")
            assert len(sink.made) > before
            assert lab.committed() == 7
