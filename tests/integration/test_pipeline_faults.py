"""Whole pipelines in this process, while topics refuse, grow or hold more than a client's queue, and our code fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from streamer.app.assembly import Assembly
from streamer.app.start import RunOptions, start
from streamer.config.load import load
from streamer.core.membership import Membership
from streamer.core.pipeline.attempts import Note
from streamer.errors import ExitCode
from streamer.kafka import clients
from streamer.kafka.source import assignment
from tests.acceptance.harness import PIPELINE, Given, Lab, Place, check, event, wait_for
from tests.conftest import Kafka
from tests.integration.group_offsets import settle

SMALL_QUEUE = {"STREAMER_KAFKA__PROPERTIES__QUEUE_BUFFERING_MAX_MESSAGES": "50"}
QUICK_METADATA = {
    "STREAMER_KAFKA__PROPERTIES__TOPIC_METADATA_REFRESH_INTERVAL_MS": "200",
    "STREAMER_KAFKA__PROPERTIES__TOPIC_METADATA_PROPAGATION_MAX_MS": "300",
}


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


class Running:
    """A pipeline on a thread of this process."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.ended: list[ExitCode] = []
        self._thread = threading.Thread(target=lambda: self.ended.append(assembly.driver.run()))
        self._thread.start()

    def end(self) -> ExitCode:
        """Wait for its end, asked for or not."""
        self._thread.join(60)
        assert self.ended, "it did not end"
        return self.ended[0]

    def plans(self) -> dict[str, float]:
        """How many ended how."""
        name = "streamer_transactions_total"
        samples = [sample for metric in self.assembly.metrics.registry.collect() for sample in metric.samples]
        return {one.labels["outcome"]: one.value for one in samples if one.name == name and one.value}


@contextmanager
def running(lab: Lab, environment: dict[str, str], until_end: bool = False, **fields: Any) -> Iterator[Running]:
    topics = {lab.input, lab.output, lab.dead_letter, lab.reports}
    wait_for(lambda: topics <= lab.admin.list_topics(timeout=5).topics.keys(), "the topics")
    config = load(lab.config(**fields), environment)
    assembly = start(config, PIPELINE, RunOptions(until_end=until_end))
    run = Running(assembly)
    try:
        yield run
    finally:
        assembly.driver.stop(10)
        run.end()
        assembly.close(1)


@pytest.mark.case(14, 19)
@pytest.mark.parametrize("role", ["output", "dead_letter"])
def test_a_topic_that_is_gone_holds_all_up(lab: Lab, role: str) -> None:
    """Whether results or dead letters have no topic: no offset moves past the first that has none, nothing is dropped,
    and it goes on by itself."""
    lab.topics(1)
    topic = getattr(lab, role)
    with running(lab, QUICK_METADATA) as run:
        wait_for(lambda: run.assembly.source.ownership.epochs, "partitions")
        lab.admin.delete_topics([topic])[topic].result(10)
        wait_for(lambda: topic not in lab.admin.list_topics(timeout=5).topics, "the topic's end")
        bad = Given(b"k", b"no event", [])
        lab.produce([*(event(number) for number in range(20)), bad, *(event(number) for number in range(20, 40))])
        wait_for(lambda: set(run.plans()) - {"settled"}, "a plan that comes to nothing")
        wait_for(lambda: lab.committed() == (20 if role == "dead_letter" else 0), "what has a topic")
        lab.create({topic: {}}, 1)
        reader = lab.reader()
        wait_for(lambda: reader.places == 41, "all outcomes")
    assert run.ended == [ExitCode.DONE]
    anomalies = check(lab.given, reader.outcomes, lambda place: "decode.json" if place.offset == 20 else "")
    assert not anomalies, str(anomalies)


def test_until_end_knows_what_it_gave_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that three earlier processes died with are met in one call with the end of their partition: all but the
    first are given back, and the end is not where these were seen."""

    class Patient(Consumer):
        met = False

        def poll(self, timeout: float) -> Any:  # type: ignore[override]
            message = super().poll(timeout if self.met else 10.0)  # with the partition the first record comes, too
            self.met = self.met or message is not None
            return message

        def consume(self, num_messages: int, timeout: float) -> list[Any]:  # type: ignore[override]
            return super().consume(num_messages, max(timeout, 1.0))

    lab.topics(1)
    lab.produce(event(number) for number in range(20))
    died = Note(["one", "another", "a third"], until=10).write()
    settle(lab.bootstrap_servers, lab.group, [TopicPartition(lab.input, 0, 0, died)])
    monkeypatch.setattr(clients, "make_consumer", lambda properties, ids: Patient(properties, logger=ids.logger))
    reader = lab.reader()
    with running(lab, {}, until_end=True) as run:
        assert run.end() is ExitCode.DONE
    wait_for(lambda: reader.places == 20, "all outcomes", 10)
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(16)
def test_a_full_producer_queue_is_waited_for(lab: Lab) -> None:
    """Plans of many more outcomes than the client's queue holds: each goes out once, none of them fails."""
    lab.topics(1)
    lab.produce(event(number) for number in range(1_000))
    reader = lab.reader()
    with running(lab, SMALL_QUEUE, until_end=True) as run:
        assert run.end() is ExitCode.DONE
    wait_for(lambda: reader.places == 1_000, "all outcomes")
    assert set(run.plans()) == {"settled"}
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


def fail(*_: object) -> None:
    raise LookupError("planted")


@pytest.mark.case(9)
@pytest.mark.parametrize(("owner", "name"), [(assignment, "start_offsets"), (Membership, "disown")])
def test_an_exception_in_a_rebalance_callback_ends_the_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Whether partitions come or go: it ends in order, says that it is a bug, and the offsets are as they were."""
    lab.topics(1)
    lab.produce(event(number) for number in range(10))
    reader = lab.reader()
    with monkeypatch.context() as planted:
        planted.setattr(owner, name, fail)
        with running(lab, {}) as run:
            if name == "disown":
                wait_for(lambda: reader.places == 10, "all outcomes")
                run.assembly.source.rejoin()
            assert run.end() is ExitCode.BUG
    assert lab.committed() == (10 if name == "disown" else 0)
    with running(lab, {}, until_end=True) as run:
        assert run.end() is ExitCode.DONE
    wait_for(lambda: reader.places == 10, "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(40)
def test_partitions_that_come_while_it_runs_are_read_from_their_start(lab: Lab) -> None:
    """Two partitions become four; what was written to the new ones before anybody knew them has its outcomes."""
    lab.topics(2)
    lab.produce(event(number) for number in range(20))
    with running(lab, QUICK_METADATA):
        wait_for(lambda: lab.committed() == 20, "the first records")
        for topic in (lab.output, lab.dead_letter, lab.input):
            lab.admin.create_partitions([NewPartitions(topic, 4)])[topic].result(10)
        lab.partitions = 4
        reader = lab.reader()
        wait_for(lambda: len(lab.admin.list_topics(lab.input, 5).topics[lab.input].partitions) == 4, "the partitions")
        lab.produce(event(number) for number in range(20, 60))
        wait_for(lambda: reader.places == 60, "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(40)
def test_offsets_with_gaps_are_passed(lab: Lab) -> None:
    """Aborted records and the markers of transactions have no outcome, and do not keep a run from its end."""
    lab.topics(1)
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "transactional.id": lab.name})
    producer.init_transactions(10)
    offset = 0
    for number in range(6):
        record = event(number)
        producer.begin_transaction()
        producer.produce(lab.input, record.value, record.key, 0)
        if number % 2:
            producer.flush()
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)
            lab.given[Place(0, offset)] = record
        offset += 2  # the record and the marker
    producer.close()
    reader = lab.reader()
    with running(lab, {}, until_end=True) as run:
        assert run.end() is ExitCode.DONE
    wait_for(lambda: reader.places == 3, "all outcomes")
    assert lab.committed() == 9  # behind the last record that counts
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(37)
@pytest.mark.parametrize("moment", ["paused", "rebalance"])
def test_a_stop_at_a_bad_moment_repeats_nothing(lab: Lab, moment: str) -> None:
    """While all partitions are paused, and while they are being given up: it ends in order, and even at least once the
    next run does only what is left."""
    lab.topics(2)
    lab.produce(event(number) for number in range(1_000))
    reader = lab.reader()
    slow: dict[str, Any] = {"budget_mb": 1, "hold_s": 0.05, "micro_batch_records": 50, "options": {"text_us": 1_000}}
    with running(lab, {}, guarantee="at_least_once", **slow) as run:
        wait_for(lambda: reader.places > 100, "load")
        if moment == "paused":
            wait_for(lambda: run.assembly.source.pauses.of_all, "all partitions to be paused")
        else:
            run.assembly.source.rejoin()
        run.assembly.driver.stop(10)
        assert run.end() is ExitCode.DONE
    assert lab.committed() < 1_000, "it stopped after all was done: this proved nothing"
    with running(lab, {}, until_end=True, guarantee="at_least_once") as run:
        assert run.end() is ExitCode.DONE
    wait_for(lambda: reader.places == 1_000, "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)
