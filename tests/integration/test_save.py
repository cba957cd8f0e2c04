"""`streamer save` on a real cluster: what it takes of a topic, and what it leaves behind when it can't."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streamer.cli import main
from streamer.config.load import KafkaConfig
from streamer.errors import ExitCode
from tests.conftest import Kafka
from tests.integration.new_topic import new_topic


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A new topic of two partitions."""
    return new_topic(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers), 2)


def save(kafka: Kafka, *arguments: str | Path, **properties: int) -> int:
    """One command on the tests' cluster."""
    sets = {"kafka.bootstrap_servers": kafka.bootstrap_servers}
    sets |= {f"kafka.properties.{name.replace('_', '.')}": str(value) for name, value in properties.items()}
    return main(["save", *map(str, arguments), *(f"--set={name}={value}" for name, value in sets.items())])


def test_a_part_of_a_topic_by_time(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """From a time on, and up to one; a partition without such records gives none, nor does an aborted transaction."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(20)
    base_ms = int(time.time() * 1000) - 60_000
    for aborted, numbers in ((True, range(100, 103)), (False, range(6))):
        producer.begin_transaction()
        for number in numbers:
            producer.produce(topic, b"%d" % number, partition=0, timestamp=base_ms + number * 1000)
        (producer.abort_transaction if aborted else producer.commit_transaction)(20)
    first, last = (datetime.fromtimestamp((base_ms + each) / 1000, UTC).isoformat() for each in (2_000, 4_000))
    out = tmp_path / "out.jsonl"
    assert save(kafka, topic, out, "--from", first, "--until", last) == ExitCode.DONE
    assert [json.loads(line)["value"] for line in out.read_text().splitlines()] == ["2", "3"]
    assert save(kafka, topic, out, "--overwrite") == ExitCode.DONE
    assert [json.loads(line)["value"] for line in out.read_text().splitlines()] == [str(n) for n in range(6)]


def test_a_batch_that_cannot_be_read_is_named(
    kafka: Kafka, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, with the setting that reads it; and nothing looks like a file that is complete."""
    packed = {"compression.type": "zstd", "linger.ms": 1_000, "batch.size": 10_000_000, "message.max.bytes": 10_000_000}
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, **packed})
    for _ in range(4):
        producer.produce(topic, b"a" * 900_000, partition=1)
    assert producer.flush(20) == 0
    small = {"receive_message_max_bytes": 1_200_000, "fetch_max_bytes": 1_100_000}
    assert save(kafka, topic, tmp_path / "out.csv", **small) == ExitCode.DEPENDENCY
    error = capsys.readouterr().err
    assert f"{topic}/1 can't be read at offset 0" in error
    assert "raise that in kafka.properties" in error
    assert list(tmp_path.iterdir()) == []
    assert save(kafka, topic, tmp_path / "out.csv") == ExitCode.DONE


@pytest.mark.case(42)
def test_a_file_that_can_grow_no_more_is_named(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """As on a full disk, where a write fails without saying of which file. Nothing is left behind."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(1_000):
        producer.produce(topic, bytes(100), partition=0)
    assert producer.flush(20) == 0
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "streamer", "save", topic, str(out)]
    command.append(f"--set=kafka.bootstrap_servers={kafka.bootstrap_servers}")
    limited = ["bash", "-c", 'ulimit -f 4 && exec "$@"', "-", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.DEPENDENCY, done.stderr
    assert done.stderr.startswith(f"streamer: {out}: File too large; raise the limit of a file's size")
    assert list(tmp_path.iterdir()) == []


def test_what_infer_has_begun_is_left_alone(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """Its partial file has the name that this one's would have."""
    partial, note = tmp_path / "out.jsonl.partial", tmp_path / "out.jsonl.partial.job"
    partial.write_text("answered")
    note.write_text("{}")
    assert save(kafka, topic, tmp_path / "out.jsonl") == ExitCode.USAGE
    assert partial.read_text() == "answered"
