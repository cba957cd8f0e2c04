"""`streamer lag` on a real cluster."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.cli import main
from streamer.config.load import KafkaConfig, load
from streamer.core.onlooker import standing
from streamer.core.standing import Reason
from streamer.errors import ConfigurationError, ExitCode
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.topics import connect
from streamer.ops.lag import LagWatch, Tokens
from tests.conftest import Kafka
from tests.integration.group_offsets import settle


@pytest.fixture(scope="module")
def topic(kafka: Kafka) -> str:
    """Three partitions: ten records of a minute ago and before; one transaction, whole settled; nothing."""
    name = f"lag-{uuid4().hex[:8]}"
    admin = connect(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers))
    admin.create_topics([NewTopic(name, 3)])[name].result(30)
    now_ms = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": name})
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(10):
        producer.produce(name, b"x", partition=0, timestamp=now_ms - 1000 * (100 - 10 * number))
    producer.produce(name, b"x", partition=1)
    producer.commit_transaction()
    producer.close()
    settle(kafka.bootstrap_servers, name, [TopicPartition(name, 0, 4), TopicPartition(name, 1, 1)])
    return name


def test_offsets_and_ages_are_those_of_the_cluster(kafka: Kafka, topic: str) -> None:
    """The settled offset's record tells its age; behind the marker of a transaction there is none."""
    offsets = GroupOffsets(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers))
    places = offsets.partitions([topic])
    assert places == [(topic, 0), (topic, 1), (topic, 2)]
    assert offsets.committed(topic, places) == {(topic, 0): 4, (topic, 1): 1}
    assert offsets.committed(topic) == offsets.committed(topic, places)
    assert offsets.counts([topic, f"{topic}.not"]) == {topic: 3, f"{topic}.not": 0}
    now_s = time.time()
    views = offsets.views(topic, [topic], "earliest")
    assert [(view.settled, view.start, view.end, view.high, view.records) for view in views] == [
        (4, 4, 11, 11, 7),
        (1, 1, 2, 2, 0),
        (None, 0, 0, 0, 0),
    ]
    assert [view.first_ms is None for view in views] == [False, True, True]
    first_ms = views[0].first_ms or 0
    assert now_s - first_ms / 1000 == pytest.approx(60, abs=30)
    newest_ms = offsets.newest_ms(places)
    assert newest_ms.keys() == {(topic, 0), (topic, 1)}
    # The marker that ends the transaction is newer than its records.
    assert newest_ms[topic, 0] - first_ms >= 50_000
    written = datetime.fromtimestamp(first_ms / 1000, UTC).isoformat()
    fresh = f"{topic}.fresh"
    starts = {start: [view.start for view in offsets.views(fresh, [topic], start)] for start in ("latest", written)}
    assert starts == {"latest": [11, 2, 0], written: [4, 0, 0]}
    # Groups that share a topic and stand elsewhere in it, in one batch.
    asked = [(topic, [topic], "earliest"), (fresh, [topic], "earliest"), (fresh, [topic], written)]
    together = offsets.views_of(asked)
    assert together == [offsets.views(*each) for each in asked]
    assert [found[0].first_ms for found in together] == [first_ms, first_ms - 40_000, first_ms]
    assert offsets.members([topic, fresh]) == {topic: [], fresh: []}


@pytest.mark.case(51)
def test_what_can_not_be_read_is_told_from_the_brokers_alone(kafka: Kafka, topic: str) -> None:
    """A transaction that is open, an offset beyond the log, and the note of processes that died: never caught up."""
    name = f"{topic}.stuck"
    admin = connect(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers))
    admin.create_topics([NewTopic(name, 3), NewTopic(f"{name}.out", 3)])[name].result(30)
    held = '{"by":["a","b","c"],"at":1,"held":true}'
    settled = [TopicPartition(name, 0, 2), TopicPartition(name, 1, 99), TopicPartition(name, 2, 0, held)]
    settle(kafka.bootstrap_servers, name, settled)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": name})
    producer.init_transactions()
    producer.begin_transaction()
    for partition in range(3):
        producer.produce(name, b"x", partition=partition)
    producer.commit_transaction()
    producer.begin_transaction()
    for _ in range(3):  # of an hour ago, so that no time has to pass
        producer.produce(name, b"x", partition=0, timestamp=int(time.time() * 1000) - 3_600_000)
    producer.flush()
    overrides = [
        f"kafka.bootstrap_servers={kafka.bootstrap_servers}",
        *(f"pipelines.p.{key}={value}" for key, value in {"task": "t", "model": "builtin:null"}.items()),
        *(f"pipelines.p.{key}={value}" for key, value in {"input": name, "output": f"{name}.out"}.items()),
        *(f"pipelines.p.{key}={value}" for key, value in {"group": name}.items()),
    ]
    config = load(None, {}, overrides)
    try:
        (lag,) = LagWatch(config, ["p"], GroupOffsets(config.kafka), Tokens()).look(time.time())
    finally:
        producer.abort_transaction()
    assert [each.records for each in lag.partitions] == [3, 2, 2]
    assert [(each.partition, each.offset, each.reason) for each in lag.standing] == [
        ((f"{name}.out.dlq", -1), -1, Reason.OUTPUT_MISSING),
        ((name, 0), 2, Reason.OPEN_TRANSACTION),
        ((name, 1), 99, Reason.OFFSET_BEYOND_END),
        ((name, 2), 1, Reason.HELD),
    ]
    (lag,) = LagWatch(config, ["p"], GroupOffsets(config.kafka), Tokens()).look(time.time())
    assert lag.partitions[0].records == 0  # only the markers of what was aborted


def test_the_command_tells_people_and_scripts(
    kafka: Kafka, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two looks, then the end: a table, or JSON with the same in it."""
    path = tmp_path / "streamer.toml"
    path.write_text(
        f"""
[kafka]
bootstrap_servers = "{kafka.bootstrap_servers}"
[telemetry]
reports = "{topic}.reports"
[pipelines.p]
task = "t"
model = "builtin:null"
input = "{topic}"
output = "{topic}.out"
group = "{topic}"
"""
    )
    assert main(["lag", "--config", str(path), "--every-s", "0.1", "--json"]) == ExitCode.DONE
    (lag,) = json.loads(capsys.readouterr().out)["pipelines"]
    assert (lag["pipeline"], lag["records"], lag["rate_out"], lag["drain_s"]) == ("p", 7, 0.0, None)
    assert [each["records"] for each in lag["partitions"]] == [7, 0, 0]
    assert main(["lag", "--config", str(path), "--every-s", "0.1"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "7 behind: stuck (output_missing)" in shown
    assert f"{topic}.out stands (output_missing): the topic does not exist; run `streamer topics create`" in " ".join(
        shown.split()
    )


def test_a_producer_that_commits_is_not_said_to_hold_readers_up(kafka: Kafka, topic: str) -> None:
    """Whatever timestamps its records have: transactions that come and go leave nothing behind."""
    name = f"{topic}.busy"
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)
    admin = connect(config)
    admin.create_topics([NewTopic(name, 1)])[name].result(30)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": name})
    producer.init_transactions()
    ending = threading.Event()

    def write() -> None:
        while not ending.is_set():
            producer.begin_transaction()
            producer.produce(name, b"x", timestamp=1_000_000_000_000)
            producer.flush()
            time.sleep(0.05)
            producer.commit_transaction()

    writing = threading.Thread(target=write)
    writing.start()
    offsets = GroupOffsets(config)
    seen = []
    try:
        deadline = time.monotonic() + 60
        while not any(view.high > view.end for view in seen):
            assert time.monotonic() < deadline
            seen += offsets.views(name, [name], "earliest")
    finally:
        ending.set()
        writing.join()
    assert [one for view in seen for one in standing(view, time.time() * 1000, group="g", address="a")] == []


def test_a_missing_input_is_named(kafka: Kafka, topic: str) -> None:
    """With what makes it."""
    kafka_config = load(None, {}, [f"kafka.bootstrap_servers={kafka.bootstrap_servers}"]).kafka
    with pytest.raises(ConfigurationError, match=f"has no topic {topic}.not"):
        GroupOffsets(kafka_config).partitions([f"{topic}.not"])
