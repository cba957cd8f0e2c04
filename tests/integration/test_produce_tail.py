"""`streamer produce` and `streamer tail`, and the reader and writer under them, on a real cluster."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer

from streamer.cli import main
from streamer.config.load import KafkaConfig
from streamer.errors import ExitCode
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect
from streamer.kafka.writer import Writer
from tests.conftest import Kafka
from tests.integration.new_topic import new_topic


@pytest.fixture
def cluster(kafka: Kafka) -> KafkaConfig:
    """The tests' cluster as a configuration."""
    return KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def topic(cluster: KafkaConfig) -> str:
    """A new topic of two partitions."""
    return new_topic(cluster, 2)


def run(cluster: KafkaConfig, *arguments: str) -> int:
    """One command on the tests' cluster."""
    return main([*arguments, "--set", f"kafka.bootstrap_servers={cluster.bootstrap_servers}"])


def write(cluster: KafkaConfig, topic: str, count: int, partition: int = 0) -> None:
    """Records whose values count up from 0."""
    with Writer(cluster) as writer:
        for number in range(count):
            writer.write(topic, b"%d" % number, partition=partition)
        assert writer.flush().delivered == count


def test_lines_become_records_as_they_are(cluster: KafkaConfig, topic: str, tmp_path: Path) -> None:
    """Values are the lines' bytes, keys and headers as asked, empty lines left out."""
    lines = [b'{"id": "a", "text": "x\xc3\xa9"}', b'{"id": 7,  "text": ""}', b'{"text": "no id"}']
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join([lines[0], b"", lines[1] + b"\r", lines[2]]))
    arguments = ["produce", topic, str(file), "--key-field", "id", "--header", "a=b", "--partition", "1"]
    assert run(cluster, *arguments) == ExitCode.DONE
    with Reader(cluster, [topic]) as reader:
        records = list(reader.read_until_end())
    assert [record.value() for record in records] == lines
    assert [record.key() for record in records] == [b"a", b"7", None]
    assert {record.partition() for record in records} == {1}
    assert records[0].headers() == [("a", b"b")]


def test_texts_are_wrapped(
    cluster: KafkaConfig, topic: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--text` makes an event of each line of standard input."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO('say "hi"\nüß\n'.encode())))
    assert run(cluster, "produce", topic, "--text", "--json") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == {"topic": topic, "delivered": 2, "failed": {}}
    with Reader(cluster, [topic]) as reader:
        values = [json.loads(record.value() or b"") for record in reader.read_until_end()]
    assert sorted(value["text"] for value in values) == ['say "hi"', "üß"]


def test_lines_that_are_no_events_are_told_of(
    cluster: KafkaConfig, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a pipeline of the configuration reads the topic; they are written all the same."""
    (tmp_path / "lines").write_text("What a fine day\n")
    fields = {"task": "t", "model": "builtin:null", "input": topic, "output": "o"}
    flags = [f"--set=pipelines.p.{name}={value}" for name, value in fields.items()]
    servers = f"--set=kafka.bootstrap_servers={cluster.bootstrap_servers}"
    for more, told in (([*flags], True), ([*flags, "--text"], False), ([], False)):
        assert main(["produce", topic, str(tmp_path / "lines"), servers, *more]) == ExitCode.DONE
        assert ("line 1 is not a JSON object, so pipeline p" in (said := capsys.readouterr().err)) == told, said
        assert "1 delivered" in said


def test_the_rate_is_kept(cluster: KafkaConfig, topic: str, tmp_path: Path) -> None:
    """21 records at 40 a second take half a second."""
    file = tmp_path / "events.jsonl"
    file.write_text("{}\n" * 21)
    before = time.monotonic()
    assert run(cluster, "produce", topic, str(file), "--rate", "40") == ExitCode.DONE
    assert time.monotonic() - before >= 0.5


def test_records_that_do_not_fit_are_counted_and_exit_4(
    cluster: KafkaConfig, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One record too large costs the others nothing."""
    file = tmp_path / "events.jsonl"
    file.write_text(f'{{}}\n"{"x" * 2_000_000}"\n{{}}\n')
    assert run(cluster, "produce", topic, str(file), "--json") == ExitCode.SOME_FAILED
    assert json.loads(capsys.readouterr().out) == {
        "topic": topic,
        "delivered": 2,
        "failed": {"MSG_SIZE_TOO_LARGE": 1},
    }


def test_a_missing_topic_is_told_before_anything_is_written(
    cluster: KafkaConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """librdkafka would wait for it; `tail` and `produce` say at once that there is none."""
    (tmp_path / "events.jsonl").write_text("{}\n")
    for arguments in (["produce", "no-such-topic", str(tmp_path / "events.jsonl")], ["tail", "no-such-topic"]):
        assert run(cluster, *arguments) == ExitCode.CONFIGURATION
        assert "has no topic no-such-topic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"{}\nnot json\n", ["--key-field", "id"], "line 2: not JSON"),
        (b"ok\n\xff\n", ["--text"], "line 2: not UTF-8"),
        (b"{}\n", ["--header", "novalue"], "--header novalue"),
    ],
)
def test_wrong_lines_are_named_but_not_quoted(
    cluster: KafkaConfig,
    topic: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    options: list[str],
    words: str,
) -> None:
    """The line's number is enough to find it."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(content)
    assert run(cluster, "produce", topic, str(file), *options) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert words in told
    assert "not json" not in told


def test_tail_reads_committed_records_up_to_an_open_transaction(
    cluster: KafkaConfig, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An aborted transaction is never shown, an open one not yet."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "transactional.id": f"tx-{topic}"})
    producer.init_transactions()
    for value, ended in ((b"first", True), (b"aborted", False), (b"open", None)):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush()
        if ended is not None:
            producer.commit_transaction() if ended else producer.abort_transaction()
    assert run(cluster, "tail", topic, "--until-end", "--json") == ExitCode.DONE
    assert [json.loads(line)["value"] for line in capsys.readouterr().out.splitlines()] == ["first"]
    producer.commit_transaction()
    producer.close()
    assert run(cluster, "tail", topic, "--until-end") == ExitCode.DONE
    assert [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()] == ["first", "open"]


def test_tail_can_start_near_the_end_and_stop_early(
    cluster: KafkaConfig, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--from -N` takes the last N of each partition, `--max` stops."""
    write(cluster, topic, 10, partition=0)
    write(cluster, topic, 10, partition=1)
    assert run(cluster, "tail", topic, "--until-end", "--from", "-2", "--json") == ExitCode.DONE
    values = [json.loads(line)["value"] for line in capsys.readouterr().out.splitlines()]
    assert sorted(values) == ["8", "8", "9", "9"]
    assert run(cluster, "tail", topic, "--from", "earliest", "--max", "3", "--json") == ExitCode.DONE
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert run(cluster, "tail", topic, "--from", "somewhere") == ExitCode.USAGE


def test_reading_until_the_end_goes_on_where_it_stopped(cluster: KafkaConfig, topic: str) -> None:
    """Each call gives what came since the one before, and nothing is committed to any group."""
    with Reader(cluster, [topic]) as reader:
        assert list(reader.read_until_end()) == []
        write(cluster, topic, 5)
        assert [record.value() for record in reader.read_until_end()] == [b"0", b"1", b"2", b"3", b"4"]
        assert list(reader.read_until_end()) == []
        write(cluster, topic, 1, partition=1)
        assert [record.partition() for record in reader.read_until_end()] == [1]
    admin = connect(cluster)
    groups = admin.list_consumer_groups().result(timeout=10)
    assert "streamer.reader" not in {group.group_id for group in groups.valid}


def test_following_ends_when_nothing_comes(cluster: KafkaConfig, topic: str) -> None:
    """`records(idle_s)` gives what is there and stops after a silence."""
    write(cluster, topic, 3)
    with Reader(cluster, [topic]) as reader:
        assert len(list(reader.records(idle_s=1.0))) == 3
    with Reader(cluster, [topic], start="latest") as reader:
        assert list(reader.records(idle_s=0.3)) == []


def test_keys_go_where_java_producers_send_them(cluster: KafkaConfig, topic: str) -> None:
    """murmur2 of the key: "21" and "foobar" are vectors of Kafka's own tests (-973932308 and -790332482)."""
    with Writer(cluster) as writer:
        for key in (b"21", b"foobar"):
            writer.write(topic, b"", key=key)
    with Reader(cluster, [topic]) as reader:
        found = {record.key(): record.partition() for record in reader.read_until_end()}
    assert found == {b"21": (-973932308 & 0x7FFFFFFF) % 2, b"foobar": (-790332482 & 0x7FFFFFFF) % 2}
