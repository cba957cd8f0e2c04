"""Whole pipelines in this process, on a broker that may be stopped: what they live through, and what they say of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from streamer.app import assembly as assembly_module
from streamer.app.assembly import Assembly
from streamer.config.load import load
from streamer.core.intake import SourcePolicy
from streamer.core.membership import Membership
from streamer.core.pipeline.attempts import Former
from streamer.core.pipeline.protocol import Assigned, Input, SourceFailed, Taken
from streamer.errors import ExitCode
from streamer.kafka import former_owners
from streamer.kafka.clients import consumer_properties, make_consumer
from streamer.kafka.source import assignment
from streamer.kafka.source.requests import start_offsets
from streamer.kafka.source.source import KafkaSource
from streamer.local import Stack
from tests.acceptance.harness import PIPELINE, Lab, check, event, wait_for
from tests.integration.group_offsets import settle
from tests.integration.in_process import running

MAX_POLL_MS = 2_000
OUTAGE_S = 4.0
STANDING_S = 1.5  # 30 s in earnest
ENVIRONMENT = {
    "STREAMER_KAFKA__PROPERTIES__SESSION_TIMEOUT_MS": str(MAX_POLL_MS),
    "STREAMER_KAFKA__PROPERTIES__MAX_POLL_INTERVAL_MS": str(MAX_POLL_MS),
    "STREAMER_KAFKA__PROPERTIES__HEARTBEAT_INTERVAL_MS": "300",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A broker of these tests' own, to be stopped, with short sessions."""
    with Stack.start(redis=False, kafka_config={"group.min.session.timeout.ms": 500}) as stack:
        yield stack


@pytest.fixture
def lab(stack: Stack, tmp_path: Path) -> Iterator[Lab]:
    with Lab(stack.bootstrap_servers, tmp_path) as lab:
        lab.topics(2)
        yield lab


def counted(assembly: Assembly, name: str, **labels: str) -> float:
    return assembly.metrics.registry.get_sample_value(name, {"pipeline": PIPELINE, **labels}) or 0.0


@pytest.mark.case(12)
def test_a_forward_pass_longer_than_the_poll_interval(lab: Lab) -> None:
    """Three times `max.poll.interval.ms` in one forward pass: no rebalance, no kill, and the results come."""
    lab.produce(event(number, "SLEEP") for number in range(2))
    reader = lab.reader()
    with running(lab, ENVIRONMENT) as assembly:
        wait_for(lambda: reader.places == 2, "all outcomes")
        assert counted(assembly, "streamer_forward_seconds_sum") > 2 * MAX_POLL_MS / 1000
        assert counted(assembly, "streamer_rebalances_total", kind="assigned") == 1
        assert counted(assembly, "streamer_rebalances_total", kind="lost") == 0
        assert counted(assembly, "streamer_rebalances_total", kind="revoked") == 0
        assert not assembly.pipeline.fleet.restarts
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.parametrize("moment", ["load", "assignment", "mark"])
def test_an_outage_does_not_fail_livez(lab: Lab, stack: Stack, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """A broker that is stopped under load, or while the source asks for offsets or notes an attempt, is no reason to
    restart: nothing of ours stands, at any time; and it all goes on by itself."""
    monkeypatch.setattr(assembly_module, "STANDING_S", STANDING_S)
    (broker,) = stack.kafka_processes
    struck = threading.Event()

    def strike() -> None:
        if not struck.is_set():
            os.kill(broker.pid, signal.SIGSTOP)
            struck.set()
            back = threading.Timer(OUTAGE_S, os.kill, (broker.pid, signal.SIGCONT))
            back.start()

    def striking(call: Callable[..., Any]) -> Callable[..., Any]:
        def struck_call(*args: Any) -> Any:
            strike()
            return call(*args)

        return struck_call

    if moment == "assignment":
        monkeypatch.setattr(assignment, "start_offsets", striking(start_offsets))
    if moment == "mark":  # it is noted who has the records where a former owner seems to have died
        former = Former({(lab.input, number): "gone" for number in range(lab.partitions)})
        monkeypatch.setattr(former_owners, "FormerOwners", lambda *_: lambda: former)
        monkeypatch.setattr(Membership, "mark", striking(Membership.mark))
    lab.produce(event(number) for number in range(2_000))
    reader = lab.reader()
    stood: list[str] = []
    with running(lab, ENVIRONMENT, micro_batch_records=100, options={"text_us": 500}) as assembly:
        if moment == "load":
            wait_for(lambda: reader.places > 100, "load")
            strike()

        def all_there() -> bool:
            stood.extend(assembly.standing())
            return reader.places == 2_000

        wait_for(all_there, "all outcomes")
    assert struck.is_set()
    assert not stood, set(stood)
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(11)
def test_a_second_owner_of_a_slot_ends_the_first(lab: Lab) -> None:
    """The one that was there goes for good, with the exit code that says so; the newer one stays."""
    lab.produce(event(number) for number in range(10))
    config = load(lab.config(), ENVIRONMENT)
    properties = consumer_properties(config.kafka, config.pipelines[PIPELINE], "a")
    facts: list[list[Input]] = [[], []]
    sources = [KafkaSource(partial(make_consumer, properties), SourcePolicy([lab.input]), one.append) for one in facts]

    def failures(number: int) -> list[ExitCode]:
        return [fact.exit_code for fact in facts[number] if isinstance(fact, SourceFailed)]

    try:
        for source, posted in zip(sources, facts, strict=True):
            source.start()
            wait_for(partial(_assigned, posted), "an assignment")
        wait_for(lambda: failures(0), "the first one's end")
        assert (failures(0), failures(1)) == ([ExitCode.FENCED], [])
    finally:
        for source in sources:
            source.close(10)


@pytest.mark.case(13)
def test_a_partition_that_stays_paused_is_sought_anew(lab: Lab) -> None:
    """What the client does not give although nobody told it to pause comes after `stuck_s`, and is counted."""
    places = lab.produce(event(number) for number in range(10))
    consumer = Consumer(_patient_properties(lab))
    reading = _Reading(on_first=lambda: consumer.pause(consumer.assignment()))  # on the source's own thread
    source = KafkaSource(lambda: consumer, SourcePolicy([lab.input], micro_batch_records=1, stuck_s=1.0), reading.post)
    source.grant(1_000, 1 << 20)
    source.start()
    try:
        wait_for(lambda: reading.has(1), "the first record")
        wait_for(lambda: reading.has(len(places)), "the others")
        wait_for(lambda: source.read_progress.stuck.healed > 0, "the count")
    finally:
        source.close(10)
    assert sorted(reading.taken) == sorted(places)


@pytest.mark.case(13)
def test_a_partition_that_was_paused_from_the_start_is_sought_anew(lab: Lab) -> None:
    """Its client has not heard of any end, so that nothing shows that there are records."""
    places = lab.produce(event(number) for number in range(10))
    consumer = _ResumesLate(_patient_properties(lab))
    settle(lab.bootstrap_servers, lab.group, [Place(lab.input, partition, 0) for partition in range(2)])
    reading = _Reading()
    source = KafkaSource(lambda: consumer, SourcePolicy([lab.input], stuck_s=1.0), reading.post)
    source.grant(1_000, 1 << 20)
    source.start()
    try:
        wait_for(lambda: reading.has(len(places)), "all records")
    finally:
        source.close(10)
    assert consumer.misses == 0
    assert sorted(reading.taken) == sorted(places)


def _patient_properties(lab: Lab) -> dict[str, Any]:
    config = load(lab.config(), {})
    return dict(consumer_properties(config.kafka, config.pipelines[PIPELINE], "a"))


class _Reading:
    """What a source took, while it has not failed."""

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.taken: list[tuple[int, int]] = []
        self._on_first = on_first
        self._failed: SourceFailed | None = None

    def post(self, fact: Input) -> None:
        if isinstance(fact, SourceFailed):
            self._failed = fact
        if isinstance(fact, Taken):
            first = not self.taken
            self.taken.extend((one.partition(), one.offset()) for part in fact.batch.segments for one in part.records)
            if first:
                self._on_first()

    def has(self, count: int) -> bool:
        assert self._failed is None, self._failed
        return len(self.taken) >= count


class _ResumesLate(Consumer):
    """Paused before it has asked for anything; its first resume has no effect, as may happen in a rebalance."""

    misses = 1

    def incremental_assign(self, partitions: list[Any]) -> None:
        super().incremental_assign(partitions)
        self.pause(partitions)

    def resume(self, partitions: list[Any]) -> None:
        if self.misses:
            self.misses -= 1
        else:
            super().resume(partitions)


def _assigned(posted: list[Input]) -> bool:
    return any(isinstance(fact, Assigned) for fact in posted)
