"""The general rule on a real broker: what is not given to us stands, and the end of a transaction does not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streamer.core import unanswered
from tests.acceptance.harness import Lab, event, wait_for
from tests.conftest import Kafka
from tests.integration.test_pipeline_faults import running

LIMIT_S = 3.0  # 45 s in earnest


@pytest.mark.slow
@pytest.mark.case(92)
def test_what_is_not_given_stands_until_it_is(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that is read up to the marker of its last transaction is ready for as long as nothing comes. When the
    client then gives nothing of a partition although there is something, as after a resume that met a rebalance,
    /readyz names it; a restart would fix no loop of ours, so /livez says nothing; and all is well once it is given."""
    monkeypatch.setattr(unanswered, "LIMIT_S", LIMIT_S)
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        lab.topics(2)
        producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "transactional.id": lab.name})
        producer.init_transactions(30)
        producer.begin_transaction()
        for number in range(10):
            given = event(number)
            producer.produce(lab.input, given.value, given.key, partition=number % 2)
        producer.commit_transaction(30)
        reader = lab.reader()
        with running(lab, {}) as pipeline:
            assembly = pipeline.assembly
            source = assembly.source
            wait_for(lambda: reader.count >= 10 and not assembly.unready(), "all outcomes")
            wait_for(lambda: all(one.position == one.end for one in source.ahead().values()), "the ends")
            until = time.monotonic() + LIMIT_S + 2.0
            while time.monotonic() < until:
                assert not [one for one in assembly.unready() if "stands" in one]
                time.sleep(0.2)
            source.call(lambda consumer: consumer.pause(consumer.assignment())).result(10)
            later = event(10)
            producer.begin_transaction()
            producer.produce(lab.input, later.value, later.key, partition=0)
            producer.commit_transaction(30)
            name = f"{lab.input}/0 stands at offset "

            def told() -> bool:
                return any(one.startswith(name) and "(unknown)" in one for one in assembly.unready())

            wait_for(told, "its name in /readyz")
            assert not assembly.standing()
            source.call(lambda consumer: consumer.resume(consumer.assignment())).result(10)
            wait_for(lambda: reader.count >= 11 and not assembly.unready(), "all well")
