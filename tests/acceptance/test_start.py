"""Where a run begins, and what it says when that place is gone."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from tests.acceptance.harness import Lab, Place, check, event, wait_for

DAY_MS = 86_400_000


def test_start_latest(lab: Lab) -> None:
    """With start = latest only what comes after the first assignment is read, also by the run after the next."""
    lab.topics(2)
    lab.produce(event(number) for number in range(100))
    config = lab.config(start="latest")
    reader = lab.reader()
    run = lab.start(config)
    wait_for(lambda: lab.committed() == 100, "the start to be committed", run=run)
    run.kill()
    later = set(lab.produce(event(number) for number in range(100, 200)))
    assert lab.start(config, "--until-end").wait() == 0
    wait_for(lambda: reader.count >= 100, "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda place: "" if place in later else "skipped")
    assert not anomalies, str(anomalies)


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "between two runs"])
def test_start_latest_and_partitions_that_come_later(lab: Lab, *, running: bool) -> None:
    """With start = latest what is written to a partition that is added later is read from its first record on."""
    lab.topics(1)
    lab.produce(event(number) for number in range(100))
    lab.properties["topic.metadata.refresh.interval.ms"] = 300
    config = lab.config(start="latest")
    run = lab.start(config)
    wait_for(lambda: lab.committed() == 100, "the start to be committed", run=run)
    if not running:
        assert run.stop() == 0
    for topic in (lab.output, lab.dead_letter, lab.input):
        lab.admin.create_partitions([NewPartitions(topic, 3)])[topic].result(10)
    lab.partitions = 3
    wait_for(lambda: len(lab.admin.list_topics(lab.input, 5).topics[lab.input].partitions) == 3, "the partitions")
    later = set(lab.produce(event(number) for number in range(100, 200)))
    reader = lab.reader()
    if not running:
        run = lab.start(config)
    wait_for(lambda: reader.count >= 100, "all outcomes", run=run)
    assert run.stop() == 0
    anomalies = check(lab.given, reader.outcomes, lambda place: "" if place in later else "skipped")
    assert not anomalies, str(anomalies)


def test_start_at_a_time(lab: Lab) -> None:
    """With a time as start only records from that time on are read."""
    now_ms = int(time.time() * 1000)
    lab.topics(2)
    lab.produce((event(number) for number in range(100)), timestamp_ms=now_ms - 2 * DAY_MS)
    later = set(lab.produce((event(number) for number in range(100, 200)), timestamp_ms=now_ms))
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((now_ms - DAY_MS) / 1000))
    reader = lab.reader()
    assert lab.start(lab.config(start=start), "--until-end").wait() == 0
    wait_for(lambda: reader.count >= 100, "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda place: "" if place in later else "skipped")
    assert not anomalies, str(anomalies)


@pytest.mark.case(15)
def test_records_deleted_before_they_were_read(lab: Lab) -> None:
    """Where retention passed the committed offset, a run stops with exit 3 and says so, or goes on where told to."""
    lab.topics(2)
    lab.produce(event(number) for number in range(200))
    reader = lab.reader()
    assert lab.start(lab.config(), "--until-end").wait() == 0
    lab.produce(event(number) for number in range(200, 400))
    for future in lab.admin.delete_records([TopicPartition(lab.input, n, 150) for n in range(2)]).values():
        future.result(30)
    stopped = lab.start(lab.config())
    assert stopped.wait() == 3
    assert "retention deleted 50 records" in stopped.log
    assert "Set on_out_of_range" in stopped.log
    assert lab.start(lab.config(on_out_of_range="earliest"), "--until-end").wait() == 0
    wait_for(lambda: reader.count >= 300, "all outcomes")

    def expected(place: Place) -> str:
        return "skipped" if 100 <= place.offset < 150 else ""

    anomalies = check(lab.given, reader.outcomes, expected)
    assert not anomalies, str(anomalies)
