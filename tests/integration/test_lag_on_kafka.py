"""`streamer lag` on a real cluster."""

from __future__ import annotations

import json
import time
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.cli import main
from streamer.config import KafkaConfig, load
from streamer.errors import ConfigurationError, ExitCode
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.topics import connect
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
    assert offsets.ends(places) == {(topic, 0): 11, (topic, 1): 2, (topic, 2): 0}
    assert offsets.earliest(places) == dict.fromkeys(places, 0)
    now_s = time.time()
    first_ms = offsets.first_ms({(topic, 0): 4, (topic, 1): 1})
    assert first_ms.keys() == {(topic, 0)}
    assert now_s - first_ms[topic, 0] / 1000 == pytest.approx(60, abs=30)
    newest_ms = offsets.newest_ms(places)
    assert newest_ms.keys() == {(topic, 0), (topic, 1)}
    # The marker that ends the transaction is newer than its records.
    assert newest_ms[topic, 0] - first_ms[topic, 0] >= 50_000
    assert offsets.at_time(places, first_ms[topic, 0]) == {(topic, 0): 4, (topic, 1): 0}


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
    assert "7 behind: nothing is being settled" in capsys.readouterr().out


def test_a_missing_input_is_named(kafka: Kafka, topic: str) -> None:
    """With what makes it."""
    kafka_config = load(None, {}, [f"kafka.bootstrap_servers={kafka.bootstrap_servers}"]).kafka
    with pytest.raises(ConfigurationError, match=f"has no topic {topic}.not"):
        GroupOffsets(kafka_config).partitions([f"{topic}.not"])
