"""Records that are there and can't be read: the partition is named, with why and what to do, and others go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.core import intake, obstacles
from streamer.core.standing import Reason, Standing
from streamer.errors import ExitCode
from streamer.kafka import orphans
from streamer.kafka.source import cluster
from tests.acceptance.harness import Lab, check, event, wait_for
from tests.conftest import Kafka
from tests.integration.group_offsets import settle
from tests.integration.test_pipeline_faults import QUICK_METADATA, Running, running

NULL = "builtin:null"


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """What stands is looked into after half a second, and given up a second later."""
    monkeypatch.setattr(intake, "SourcePolicy", partial(intake.SourcePolicy, stand_s=0.5))
    monkeypatch.setattr(cluster, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(obstacles, "GIVE_UP_S", 1.0)
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


def stands(run: Running, reason: Reason, topic: str) -> Standing:
    """Wait until this topic stands for this reason."""

    def found() -> Standing | None:
        current = run.assembly.signals.standings.current
        return next((one for one in current if (one.reason, one.partition[0]) == (reason, topic)), None)

    one: Standing = wait_for(found, f"a partition that stands: {reason}")
    return one


def gauge(run: Running, name: str, topic: str) -> float | None:
    """A gauge of partition 0 of this topic."""
    labels = {"topic": topic, "partition": "0", "pipeline": "p"}
    return run.assembly.metrics.registry.get_sample_value(name, labels)


def last_words(caplog: pytest.LogCaptureFixture) -> str:
    """What the driver said at its end."""
    return next(one.getMessage() for one in reversed(caplog.records) if one.name == "streamer.app.driver")


def open_transaction(lab: Lab, *values: bytes) -> Producer:
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, "transactional.id": lab.name})
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in values:
        producer.produce(lab.input, value, partition=0)
    assert producer.flush(20) == 0
    return producer


@pytest.mark.case(43)
def test_a_transaction_left_open_on_the_input(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """What stands behind it is counted and named; a run to the end says so and fails; once it ends all is read, and the
    markers that end the log are no lag."""
    lab.topics(1)
    lab.produce(event(number) for number in range(5))
    producer = open_transaction(lab, b'{"text": "aborted"}')
    lab._next[0] += 1  # the record above
    lab.produce(event(number) for number in range(5))
    reader = lab.reader()
    with running(lab, {}, until_end=True) as run:
        assert run.end() is ExitCode.DEPENDENCY
    words = last_words(caplog)
    assert f"{lab.input}/0 is stuck at offset 5 (open_transaction)" in words
    assert f"abort --topic {lab.input} --partition 0 --start-offset 5" in words
    assert reader.places == 5
    with running(lab, {}) as run:
        assert stands(run, Reason.OPEN_TRANSACTION, lab.input).offset == 5
        wait_for(lambda: gauge(run, "streamer_lag_records", lab.input) == 6, "the lag")
        assert (gauge(run, "streamer_lag_seconds", lab.input) or 0) > 0
        producer.abort_transaction(20)
        wait_for(lambda: reader.places == 10, "all outcomes")
        open_transaction(lab, b'{"text": "aborted"}').abort_transaction(20)
        wait_for(lambda: gauge(run, "streamer_lag_records", lab.input) == 0, "no lag at the end")
        wait_for(lambda: not run.assembly.signals.standings.current, "nothing to stand")
        assert gauge(run, "streamer_lag_seconds", lab.input) == 0
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


@pytest.mark.case(44)
def test_an_offset_beyond_the_end(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """It stops with the true reason, or all that is there is read, once; an empty log ends in order, too."""
    lab.topics(2)
    lab.produce(event(number) for number in range(10))
    lab.admin.delete_records([TopicPartition(lab.input, 1, 5)])[TopicPartition(lab.input, 1)].result(20)
    lab.given = {place: given for place, given in lab.given.items() if place.partition == 0}
    settle(lab.bootstrap_servers, lab.group, [TopicPartition(lab.input, number, 1000) for number in range(2)])
    with running(lab, {}, until_end=True) as run:
        assert run.end() is ExitCode.CONFIGURATION
    assert "has come to offset 1000, and the log ends at 5" in last_words(caplog)
    reader = lab.reader()
    for _ in range(2):
        with running(lab, {}, until_end=True, on_out_of_range="earliest") as run:
            assert run.end() is ExitCode.DONE
        assert lab.committed() == 10
    wait_for(lambda: reader.places == 5, "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)


def make_anew(lab: Lab, partitions: int = 1) -> None:
    """Delete the input and make it again at once."""
    lab.admin.delete_topics([lab.input])[lab.input].result(20)
    lab.given.clear()
    lab._next.clear()
    deadline = time.monotonic() + 20
    while True:
        try:
            lab.admin.create_topics([NewTopic(lab.input, partitions, 1)])[lab.input].result(20)
            return
        except KafkaException:  # the old one is still on its way out
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.case(45)
@pytest.mark.parametrize(("start", "partitions"), [("earliest", 2), ("latest", 1)])
def test_a_topic_that_is_made_anew_is_read_from_its_start(
    lab: Lab, caplog: pytest.LogCaptureFixture, start: str, partitions: int
) -> None:
    """The client would go on where the old topic ended. More records come than the old one had, so that nothing but the
    topic's id tells. It may have fewer partitions than it had."""
    lab.topics(partitions)
    reader = lab.reader()
    with running(lab, {}, model=NULL, start=start) as run:
        wait_for(lambda: run.assembly.source.ownership.epochs, "the partition")
        lab.produce(event(number) for number in range(20))
        wait_for(lambda: reader.places == 20, "the old outcomes")
        make_anew(lab)
        lab.partitions = 1
        lab.produce(event(number) for number in range(100, 150))
        wait_for(lambda: reader.count == 70, "the new outcomes")
        wait_for(lambda: lab.committed() == 50, "the offset")
        resets = partial(
            run.assembly.metrics.registry.get_sample_value, "streamer_input_resets_total", {"pipeline": "p"}
        )
        wait_for(lambda: resets(), "the metric that raises the alert")
    assert run.ended == [ExitCode.DONE]
    assert [outcome.place.offset for outcome in reader.outcomes[20:]] == list(range(50))
    assert any("recreated" in one.getMessage() for one in caplog.records)


@pytest.mark.case(46)
def test_a_batch_that_unpacks_past_the_limit(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partition is held alone and named, the other one goes on; it is tried again, with a line for all of it."""
    monkeypatch.setattr(obstacles, "RETRY_S", 0.5)
    lab.topics(2)
    lab.properties = {"receive.message.max.bytes": 1_200_000, "fetch.max.bytes": 1_100_000}
    lab.produce(event(number) for number in range(6))
    packed = {"compression.type": "zstd", "linger.ms": 1_000, "batch.size": 10_000_000, "message.max.bytes": 10_000_000}
    producer = Producer({"bootstrap.servers": lab.bootstrap_servers, **packed})
    for _ in range(4):
        producer.produce(lab.input, b'{"text": "%s"}' % (b"a" * 900_000), partition=0)
    assert producer.flush(20) == 0
    reader = lab.reader()
    with running(lab, {}) as run:
        one = stands(run, Reason.UNREADABLE, lab.input)
        assert (one.partition, one.offset) == ((lab.input, 0), 3)
        assert "raise receive.message.max.bytes" in one.fix and "--to-offset" in one.fix
        for number in range(2):
            producer.produce(lab.input, b'{"text": "7 after"}', partition=number)
        assert producer.flush(20) == 0
        wait_for(lambda: reader.places == 7, "the other partition")
        time.sleep(1.5)  # it was tried again meanwhile
        assert stands(run, Reason.UNREADABLE, lab.input) == one
        wait_for(lambda: gauge(run, "streamer_lag_records", lab.input) == 5, "the lag")
    assert sum(f"{lab.input}/0 is stuck" in record.getMessage() for record in caplog.records) == 1
    assert not any("continues after an error" in record.getMessage() for record in caplog.records)
    with running(lab, {}, until_end=True) as run:
        assert run.end() is ExitCode.DEPENDENCY
    assert f"{lab.input}/0 is stuck at offset 3 (unreadable)" in last_words(caplog)
    lab.properties = {}
    with running(lab, {}, until_end=True, model=NULL) as run:  # all is read once it may be unpacked
        assert run.end() is ExitCode.DONE
    wait_for(lambda: reader.places == 12, "all outcomes")


@pytest.mark.case(47)
def test_a_group_that_does_not_let_us_in(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Because of another way to divide partitions, or of a session out of bounds: it ends, and says which group, why
    and what to do."""
    lab.topics(1)
    lab.produce([event(0)])
    ranged = {
        "group.id": lab.group,
        "partition.assignment.strategy": "range",
        "bootstrap.servers": lab.bootstrap_servers,
    }
    other = Consumer(ranged)
    other.subscribe([lab.input])
    try:
        wait_for(lambda: (other.poll(0.1), other.assignment())[1], "the other member")
        with running(lab, {}, until_end=True) as run:
            wait_for(lambda: (other.poll(0.1), run.ended)[1], "the end")
            assert run.end() is ExitCode.DEPENDENCY
    finally:
        other.close()
    assert (
        f"group {lab.group} does not let us in: a member of this group uses another partition assignor"
        in last_words(caplog)
    )
    lab.properties = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 900}
    with running(lab, {}) as run:
        assert run.end() is ExitCode.CONFIGURATION
    assert "the brokers do not accept session.timeout.ms" in last_words(caplog)


@pytest.mark.case(56)
def test_a_stranger_in_the_group(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition that it takes away stands, though lag is 0; the others go on."""
    monkeypatch.setattr(orphans, "OrphanWatch", partial(orphans.OrphanWatch, after_s=0.2, again_s=0.2))
    lab.topics(2)
    stranger = Consumer(
        {
            "group.id": lab.group,
            "partition.assignment.strategy": "cooperative-sticky",
            "bootstrap.servers": lab.bootstrap_servers,
        }
    )
    with running(lab, {}, model=NULL) as run:
        wait_for(lambda: len(run.assembly.source.starts) == 2, "both partitions")
        stranger.subscribe([lab.input])
        try:
            wait_for(lambda: (stranger.poll(0.1), stranger.assignment())[1], "its share")
            assert "is not streamer's" in stands(run, Reason.GROUP, lab.input).what
        finally:
            stranger.close()
        wait_for(lambda: not run.assembly.signals.standings.current, "the end of it")


@pytest.mark.case(48)
def test_one_of_two_inputs_is_deleted(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """It is named, and the other one goes on; once it is there again it is read."""
    lab.topics(1)
    gone = f"{lab.name}.gone"
    lab.create({gone: {}}, 1)
    wait_for(lambda: gone in lab.admin.list_topics(timeout=5).topics, "the second input")
    reader = lab.reader()
    with running(lab, QUICK_METADATA, input=[lab.input, gone]) as run:
        wait_for(lambda: len(run.assembly.source.ownership.epochs) == 2, "both partitions")
        lab.admin.delete_topics([gone])[gone].result(20)
        assert stands(run, Reason.INPUT_MISSING, gone).partition == (gone, -1)
        lab.produce(event(number) for number in range(5))
        wait_for(lambda: reader.places == 5, "the other input's outcomes")
        lab.create({gone: {}}, 1)
        producer = Producer({"bootstrap.servers": lab.bootstrap_servers})
        wait_for(lambda: gone in lab.admin.list_topics(timeout=5).topics, "the topic")
        producer.produce(gone, b'{"text": "1"}', partition=0)
        assert producer.flush(20) == 0
        wait_for(lambda: reader.count == 6, "its outcome")
        wait_for(lambda: not run.assembly.signals.standings.current, "nothing to stand")


@pytest.mark.case(48)
def test_a_run_to_the_end_of_an_input_that_is_deleted(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """It had not read all, so that its end is no success: neither while the partition is still ours nor later."""
    lab.topics(1)
    lab.produce(event(number) for number in range(5))
    open_transaction(lab, b'{"text": "open"}')
    reader = lab.reader()
    with running(lab, QUICK_METADATA, until_end=True) as run:
        wait_for(lambda: reader.places == 5, "what can be read")
        lab.admin.delete_topics([lab.input])[lab.input].result(20)
        assert run.end() is ExitCode.DEPENDENCY
    assert "not all was read" in last_words(caplog)


@pytest.mark.case(8)
def test_a_run_to_the_end_that_loses_its_partitions_gets_them_again(lab: Lab) -> None:
    """With nothing of its own, as long as the group divides anew, it has not come to the end."""
    lab.topics(1)
    producer = open_transaction(lab, b'{"text": "1"}')
    told: list[Any] = []
    strategy = {"group.id": lab.group, "partition.assignment.strategy": "cooperative-sticky"}
    slow = {"heartbeat.interval.ms": 4_000, "session.timeout.ms": 20_000}  # so long may a rebalance take
    other = Consumer({"bootstrap.servers": lab.bootstrap_servers, **strategy, **slow})
    with running(lab, {}, until_end=True) as run:
        wait_for(lambda: run.assembly.source.ownership.epochs, "the partition")
        other.subscribe([lab.output], on_assign=lambda _, partitions: told.append(partitions))
        wait_for(lambda: (other.poll(0.1), told)[1], "the other member")
        run.assembly.source.rejoin()
        wait_for(lambda: not run.assembly.source.ownership.epochs, "the loss")
        producer.commit_transaction(20)
        assert run.end() is ExitCode.DONE
    other.close()
    reader = lab.reader()
    wait_for(lambda: reader.places == 1, "the outcome")


@pytest.mark.case(49)
def test_a_group_whose_offsets_are_gone_says_so(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """As after offsets.retention.minutes without a member: what `start` says is what happens, and is told."""
    lab.topics(1)
    lab.produce(event(number) for number in range(5))
    settle(lab.bootstrap_servers, lab.group, [TopicPartition(lab.input, 0, 2)])
    lab.admin.delete_consumer_groups([lab.group])[lab.group].result(20)
    with running(lab, {}, until_end=True, start="latest") as run:
        assert run.end() is ExitCode.DONE
    said = [one for one in caplog.records if "the group has no offset" in one.getMessage()]
    assert [one.__dict__["data"] for one in said] == [{"partitions": [(lab.input, 0)]}]
    assert 'start = "latest"' in said[0].getMessage() and "expired" in said[0].getMessage()
