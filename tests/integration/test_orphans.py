"""A partition that nobody owns in a stable group, made on a real broker, is found and healed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack
from unittest.mock import Mock

import pytest
from confluent_kafka import Consumer, ConsumerGroupState
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streamer.config.fields import KafkaConfig
from streamer.config.pipeline import PipelineConfig
from streamer.core.intake import SourcePolicy
from streamer.core.pipeline.protocol import Assigned, Input, Revoking
from streamer.core.standing import Reason
from streamer.kafka.clients import consumer_properties, make_consumer
from streamer.kafka.coordinator import describe
from streamer.kafka.orphans import OrphanWatch, find_orphans
from streamer.kafka.source.source import KafkaSource
from streamer.kafka.topics import connect
from tests.conftest import Kafka
from tests.waiting import wait_for

PARTITIONS = 3

# A member that never gives up what it is told to give up: it is killed in the middle of its revocation.
STUCK = """
import sys, time
import pytest
from confluent_kafka import Consumer, ConsumerGroupState
def stuck(*_):
    print("revoking", flush=True)
    time.sleep(600)
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "group.instance.id": "a",
                     "partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 30000,
                     "heartbeat.interval.ms": 500, "auto.offset.reset": "earliest"})
consumer.subscribe([sys.argv[3]], on_assign=lambda *_: print("assigned", flush=True), on_revoke=stuck)
while True:
    consumer.poll(0.1)
"""


def test_a_partition_that_nobody_owns_is_found_and_given_away(kafka: Kafka) -> None:
    """The restarted slot sees the orphan twice, joins anew, and all partitions have owners again."""
    group, topic = f"g-{uuid.uuid4()}", f"t-{uuid.uuid4()}"
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        future.result(10)
    stuck = subprocess.Popen(
        [sys.executable, "-c", STUCK, kafka.bootstrap_servers, group, topic], stdout=subprocess.PIPE, text=True
    )
    assert stuck.stdout is not None
    assert stuck.stdout.readline() == "assigned\n"
    other = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": group,
            "group.instance.id": "b",
            "partition.assignment.strategy": "cooperative-sticky",
            "heartbeat.interval.ms": 500,
            "auto.offset.reset": "earliest",
        }
    )
    ending = threading.Event()

    def poll() -> None:
        other.subscribe([topic])
        while not ending.is_set():
            other.poll(0.1)
        other.close()

    polling = threading.Thread(target=poll)
    polling.start()
    posted: list[Input] = []
    source: KafkaSource | None = None
    try:
        assert stuck.stdout.readline() == "revoking\n"
        stuck.send_signal(signal.SIGKILL)
        stuck.wait()
        pipeline = PipelineConfig(task="t", model="builtin:null", input=[topic], output="o", group=group)
        properties = {**consumer_properties(config, pipeline, "a"), "session.timeout.ms": 30000}

        def post(fact: Input) -> None:
            posted.append(fact)
            if isinstance(fact, Revoking) and source is not None:
                source.release(fact.epoch)

        source = KafkaSource(lambda: make_consumer(properties), SourcePolicy(topics=[topic]), post)
        source.start()
        wait_for(lambda: any(isinstance(fact, Assigned) and fact.epochs for fact in posted), "the slot's return")
        wait_for(lambda: len(find_orphans(connect(config), group, [topic])) == 1, "the orphan")
        watch = OrphanWatch(source, config, group, [topic], after_s=0.5)
        watch.start()
        # Several stable looks: while partitions move, a stable group may have one that is under way.
        wait_for(lambda: _all_owned(config, group, topic) and _all_owned(config, group, topic), "owners for all")
    finally:
        if source is not None:
            source.close(10)
        ending.set()
        polling.join()
        if stuck.poll() is None:
            stuck.kill()
            stuck.wait()
        stuck.stdout.close()


def _all_owned(config: KafkaConfig, group: str, topic: str) -> bool:
    admin = AdminClient({"bootstrap.servers": config.bootstrap_servers})
    description = admin.describe_consumer_groups([group], request_timeout=10)[group].result(10)
    owned = [partition for member in description.members for partition in member.assignment.topic_partitions]
    return len({partition.partition for partition in owned}) == PARTITIONS


@pytest.mark.case(56)
def test_a_member_that_writes_elsewhere_is_named(kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    """As the member of a copied configuration does; those of one output, and of older releases, are replicas."""
    group, topic = f"g-{uuid.uuid4()}", f"t-{uuid.uuid4()}"
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(10)
    with ExitStack() as closing:
        for slot, output in (("a", "out"), ("b", "elsewhere")):
            pipeline = PipelineConfig(task="t", model="m", input=[topic], output=output, group=group)
            consumer = make_consumer(consumer_properties(config, pipeline, slot))
            closing.callback(consumer.close)
            consumer.subscribe([topic])
            wait_for(lambda: consumer.poll(0.1) is None and bool(consumer.memberid()), "the member")  # noqa: B023
        watch = OrphanWatch(Mock(), config, group, [topic], 0.1, output="out", dynamic=True)

        def named() -> bool:
            watch._look()
            return "writes its results to elsewhere, not to out" in caplog.text

        wait_for(named, "the warning")
        watch._look()
    assert caplog.text.count("writes its results") == 1


@pytest.mark.slow
@pytest.mark.case(56)
def test_what_a_stranger_takes_away_stands(kafka: Kafka) -> None:
    """A consumer of another program that joins at any time: its partitions get no answer, and it settles them. Also
    while it holds up the group, and no longer once it has left."""
    group, topic = f"g-{uuid.uuid4()}", f"t-{uuid.uuid4()}"
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(10)
    pipeline = PipelineConfig(task="t", model="m", input=[topic], output="out", group=group)
    properties = consumer_properties(config, pipeline, "a")
    foreign = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "group.id": group,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 6000,
    }
    client = str(properties["client.id"])
    watch = OrphanWatch(Mock(), config, group, [topic], 0.1, output="out", client=client, again_s=0.1)
    with ExitStack() as closing:
        ours, other, third = make_consumer(properties), Consumer(foreign), Consumer(foreign)
        closing.callback(ours.close)
        ours.subscribe([topic])
        wait_for(lambda: ours.poll(0.1) is None and len(ours.assignment()) == PARTITIONS, "all of it")
        closing.callback(watch.close)
        watch.start()
        other.subscribe([topic])
        wait_for(lambda: other.poll(0.1) is ours.poll(0.1) is None and bool(other.assignment()), "its share")
        taken = other.assignment()[0]
        wait_for(lambda: bool(watch.standing()), "the stranger")
        (one,) = watch.standing()
        assert (one.partition, one.reason) == ((topic, taken.partition), Reason.GROUP)
        assert "is not streamer's, and takes these records" in one.what
        third.subscribe([topic])

        def joining() -> bool:
            return third.poll(0.1) is None and describe(admin, group).state == ConsumerGroupState.PREPARING_REBALANCING

        wait_for(joining, "the group that is held up")
        time.sleep(1)
        assert watch.standing() == [one]
        other.close()
        third.close()
        wait_for(lambda: ours.poll(0.1) is None and not watch.standing(), "the end of it")
