"""`streamer dlq` on a real cluster: what it shows, moves, closes and carries, and what it never does."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streamer.cli import main
from streamer.config.load import KafkaConfig, load
from streamer.core.deadletters.audit import AUDIT_TOPIC
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.core.record import Record
from streamer.errors import ConfigurationError, ExitCode
from streamer.kafka.reader import Reader
from streamer.kafka.replay import CopierFencedError, TopicLog, TransactionalCopier
from streamer.kafka.scan import Scan
from streamer.kafka.topics import check, connect, create, describe, require
from streamer.kafka.writer import Writer
from tests.conftest import Kafka
from tests.integration.bad_header import write_bad_header
from tests.otlp_receiver import otlp_receiver
from tests.records import FakeRecord
from tests.unit.deadletters_kit import ARROYO, CONNECT, SHARE, SPRING, STREAMS, foreign, ours
from tests.waiting import wait_for

BINARY = b"\x00\xff\xfe"
Run = Callable[..., int]


@pytest.fixture
def cluster(kafka: Kafka) -> KafkaConfig:
    """The tests' cluster, with the topics that `streamer dlq` writes to."""
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers)
    make(config, STATE_TOPIC, 1, **{"cleanup.policy": "compact"})
    make(config, AUDIT_TOPIC, 1)
    return config


@pytest.fixture(autouse=True)
def folders_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine remembers of the state topic lies in the test's folder, and so do an editor's files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def run(cluster: KafkaConfig, name: str) -> Run:
    """Runs one `streamer dlq` command, with the configuration of `settings`."""
    return lambda *arguments: main(["dlq", *arguments, *settings(cluster, name)])


def settings(cluster: KafkaConfig, name: str) -> list[str]:
    """A configuration whose pipeline p reads NAME.in and NAME.small."""
    path = Path(tempfile.gettempdir()) / f"{name}.toml"
    path.write_text(
        f'[kafka]\nbootstrap_servers = "{cluster.bootstrap_servers}"\n[pipelines.p]\ntask = "t"\n'
        f'model = "builtin:null"\ninput = ["{name}.in", "{name}.small"]\noutput = "{name}.out"\n'
        f'dead_letter = "{name}.dlq"\n[telemetry]\nspans = ""\n'
    )
    return ["--config", str(path)]


@pytest.fixture
def name(cluster: KafkaConfig) -> str:
    """The prefix of a test's topics: `NAME.in` of four partitions and `NAME.dlq` of two."""
    prefix = uuid4().hex[:8]
    make(cluster, f"{prefix}.in", 4)
    make(cluster, f"{prefix}.dlq", 2, **{"max.message.bytes": "1112588"})
    return prefix


def make(cluster: KafkaConfig, topic: str, partitions: int, **config: str) -> None:
    """A topic, if it is not there."""
    admin = connect(cluster)
    if describe(admin, cluster, [topic])[topic] is None:
        admin.create_topics([NewTopic(topic, partitions, config=config)])[topic].result()
    deadline = time.monotonic() + 10
    while True:
        try:
            require(admin, cluster, topic)
            return
        except ConfigurationError:
            assert time.monotonic() < deadline


def put(cluster: KafkaConfig, topic: str, *records: Record, partition: int = 0) -> None:
    """Write these records, now: the broker soon deletes what its retention calls old."""
    with Writer(cluster) as writer:
        for record in records:
            writer.write(topic, record.value(), key=record.key(), headers=record.headers(), partition=partition)
        assert writer.flush().delivered == len(records)


def read(cluster: KafkaConfig, topic: str) -> list[Record]:
    """All committed records of a topic."""
    with Reader(cluster, [topic]) as reader:
        return list(reader.read_until_end())


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_dead_letters_of_all_tools_are_listed(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its place, code and origin; filters pick; the table shows the same."""
    put(cluster, f"{name}.dlq", ours(), *(foreign(each) for each in (CONNECT, STREAMS, SHARE, SPRING, ARROYO)))
    assert run("list", f"{name}.dlq", "--json") == ExitCode.DONE
    found = json_lines(capsys)
    assert [each["error"]["code"] for each in found] == [
        "infer.exception",
        "kafka-connect",
        "kafka-streams",
        "share-group",
        "spring",
        "arroyo",
    ]
    assert [each["offset"] for each in found] == list(range(6))
    assert {(each["error"]["partition"], each["error"]["offset"]) for each in found[1:]} == {(3, 117)}
    assert run("list", f"{name}.dlq", "--json", "--origin-topic", "orders", "--attempts", "4..") == ExitCode.DONE
    assert [each["error"]["code"] for each in json_lines(capsys)] == ["share-group", "spring"]
    assert run("list", f"{name}.dlq", "--max", "2") == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(f"{name}.dlq/0/0")
    assert "no such account" not in lines[1]


def test_causes_are_lines_and_their_names_are_filters(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three rows of one message are one cause, whose fingerprint picks them again."""
    put(cluster, f"{name}.dlq", *(ours(n, message=f"row {n}") for n in range(3)), ours(3, message="other"))
    assert run("causes", f"{name}.dlq") == ExitCode.DONE
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] == "3"
    assert "ValueError: row ‹n›" in first
    assert second.split()[0] == "1"
    assert run("list", f"{name}.dlq", "--cause", first.split()[1], "--json") == ExitCode.DONE
    assert len(json_lines(capsys)) == 3
    assert run("causes", f"{name}.dlq", "--json") == ExitCode.DONE
    assert sum(json_lines(capsys)[0]["timeline"]) == 3


def test_one_is_shown_whole(cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Headers, trace and value, as text, JSON or hex; what is not there is said."""
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    put(cluster, f"{name}.dlq", ours(0, headers=[trace, ("odd", BINARY)]), ours(1, value=BINARY + b"abc"))
    assert run("show", f"{name}.dlq/0/0") == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "trace id     0af7651916cd43dd8448eb211c80319c" in shown
    assert "odd = 0x00fffe" in shown
    assert '  "text": "hi"' in shown
    assert run("show", f"{name}.dlq/0/0", "--as", "text") == ExitCode.DONE
    assert '{"id": "a", "text": "hi"}' in capsys.readouterr().out
    assert run("show", f"{name}.dlq/0/1") == ExitCode.DONE
    assert "00 ff fe 61 62 63" in capsys.readouterr().out
    assert run("show", f"{name}.dlq/0/0", "--json") == ExitCode.DONE
    assert json_lines(capsys)[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    for place in (f"{name}.dlq/0/2", f"{name}.dlq/1/0", f"{name}.dlq/7/0", f"{name}.dlq/0", "x"):
        assert run("show", place) == ExitCode.USAGE
    assert run("show", "no-such/0/0") == ExitCode.CONFIGURATION


def test_a_record_of_an_input_is_shown_as_one(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A held record is looked at before it is buried; it is no dead letter of an unknown tool. One that is there is
    said to be unknown, without a code, a try or an origin that nobody told."""
    put(cluster, f"{name}.in", FakeRecord(b'{"text": "hi"}', b"k", []))
    put(cluster, f"{name}.dlq", FakeRecord(b"?", b"k", []))
    assert run("show", f"{name}.in/0/0") == ExitCode.DONE
    shown = capsys.readouterr().out
    assert f"record       {name}.in/0/0" in shown
    assert "is           not a dead letter, but an input of pipeline p" in shown
    assert '  "text": "hi"' in shown
    assert "unknown" not in shown
    assert run("show", f"{name}.in/0/0", "--json") == ExitCode.DONE
    (document,) = json_lines(capsys)
    assert (document["error"], document["input_of"]) == (None, ["p"])
    assert run("show", f"{name}.dlq/0/0") == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "by           unknown: no header of it says who gave it up, or why" in shown
    assert "came from" not in shown


@pytest.mark.promise(10)
def test_a_replay_is_traced(
    cluster: KafkaConfig, run: Run, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the topic and over HTTP: the run, and its transaction with a link to the producer's trace, which what is sent
    goes on with. A dry run is not traced, and no topic is made where there is none."""
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in", headers=[("traceparent", trace)]) for n in range(2)))
    spans, none = (("--set", f"telemetry.spans={name}.{topic}") for topic in ("spans", "none"))
    make(cluster, f"{name}.spans", 1)
    replay = ("replay", f"{name}.dlq", "--max", "1")
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.url)
        assert run(*replay, *spans) == ExitCode.DONE
        assert run(*replay, "--execute", "--job", f"j-{name}", *spans) == ExitCode.DONE
        posted = [body for _, _, body in receiver.requests]
    assert [record.value() for record in read(cluster, f"{name}.spans")] == posted
    requests = [ExportTraceServiceRequest.FromString(body) for body in posted]
    found = {span.name: span for one in requests for span in one.resource_spans[0].scope_spans[0].spans}
    assert found.keys() == {"replay dead letters", f"send {name}.in"}
    whole, sent = found["replay dead letters"], found[f"send {name}.in"]
    assert (sent.trace_id, sent.parent_span_id) == (whole.trace_id, whole.span_id)
    assert [link.trace_id.hex() for link in sent.links] == ["0af7651916cd43dd8448eb211c80319c"]
    (record,) = read(cluster, f"{name}.in")
    assert dict(record.headers() or [])["traceparent"] == trace

    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    assert run("reopen", f"j-{name}", f"{name}.dlq", "--execute", *none) == ExitCode.DONE
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert run(*replay, "--execute", *spans) == ExitCode.DONE
    assert len(read(cluster, f"{name}.spans")) == len(posted)
    assert describe(connect(cluster), cluster, [f"{name}.none"])[f"{name}.none"] is None


def test_a_header_that_can_not_be_read_harms_nobody(cluster: KafkaConfig, run: Run, name: str) -> None:
    """A header's name that is not UTF-8, after many records whose headers are fine: the process lives (a crash would
    end this one, so that another does it), the record is listed and stays, its neighbours move."""
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in") for n in range(300)))
    write_bad_header(cluster.bootstrap_servers, f"{name}.dlq", b"bad")
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in") for n in range(300, 600)))

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamer", "dlq", *arguments]
        command += settings(cluster, name)
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    listed = program("list", f"{name}.dlq", "--json")
    assert listed.returncode == ExitCode.DONE, listed.stderr
    codes = [json.loads(line)["error"]["code"] for line in listed.stdout.splitlines()]
    assert codes == ["infer.exception"] * 300 + ["unknown"] + ["infer.exception"] * 300
    moved = program("replay", f"{name}.dlq", "--to", f"{name}.in", "--execute")
    assert moved.returncode == ExitCode.SOME_FAILED, moved.stderr
    assert f"not UTF-8, so its headers can't be kept: discard it  (e.g. {name}.dlq/0/300)" in moved.stdout
    assert len(read(cluster, f"{name}.in")) == 600


@pytest.mark.promise(9)
def test_a_replay_sends_back_what_there_was(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run writes nothing; with --execute key, value, headers and partition are the record's own, once."""
    own: Any = [("mine", BINARY), ("empty", b""), ("null", None), ("mine", b"twice")]
    put(cluster, f"{name}.dlq", ours(0, value=BINARY, key=None, headers=own, origin=f"{name}.in", partition=3))
    put(cluster, f"{name}.dlq", ours(1, origin=f"{name}.in", partition=2), partition=1)
    assert run("replay", f"{name}.dlq", "--json") == ExitCode.DONE
    (plan,) = json_lines(capsys)
    assert (plan["dry_run"], plan["total"]) == (True, 2)
    assert {(move["to"], move["partition"], move["count"]) for move in plan["moves"]} == {
        (f"{name}.in", 3, 1),
        (f"{name}.in", 2, 1),
    }
    assert read(cluster, f"{name}.in") == []
    assert run("replay", f"{name}.dlq", "--execute", "--job", f"j-{name}") == ExitCode.DONE
    records = {record.partition(): record for record in read(cluster, f"{name}.in")}
    first = records[3]
    assert (first.key(), first.value()) == (None, BINARY)
    assert first.headers() == [
        *own,
        ("streamer.replay.id", f"{name}.in/3/100".encode()),
        ("streamer.replay.attempts", b"1"),
        ("streamer.replay.job", f"j-{name}".encode()),
        ("streamer.replay.pipeline", b"p"),
        ("streamer.origin.topic", f"{name}.in".encode()),
        ("streamer.origin.partition", b"3"),
        ("streamer.origin.offset", b"100"),
    ]
    assert records[2].key() == b"k"
    capsys.readouterr()
    assert run("replay", f"{name}.dlq", "--execute") == ExitCode.USAGE
    assert "all 2" in capsys.readouterr().err
    assert len(read(cluster, f"{name}.in")) == 2
    assert run("list", f"{name}.dlq", "--all", "--json") == ExitCode.DONE
    assert {each["state"]["job"] for each in json_lines(capsys)} == {f"j-{name}"}
    mine = [json.loads(r.value() or b"") for r in read(cluster, AUDIT_TOPIC) if r.key() == f"j-{name}".encode()]
    assert [(each["event"], each["count"]) for each in mine] == [("began", 0), ("ended", 2)]
    assert "@" in mine[0]["by"]


@pytest.mark.case(39)
def test_nothing_moves_where_something_is_missing(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A filter that matches nothing, a target that does not exist: told in the dry run too, with another exit code."""
    put(cluster, f"{name}.dlq", ours(origin=f"{name}.in"), ours(1, origin=f"{name}.gone"))
    for more in ([], ["--execute"]):
        assert run("replay", f"{name}.dlq", "--code", "infer.nan", *more) == ExitCode.USAGE
        assert run("replay", f"{name}.dlq", "--to", f"{name}.gone", *more) == ExitCode.CONFIGURATION
        assert run("replay", f"{name}.dlq", "--to", f"{name}.dlq", *more) == ExitCode.USAGE
        assert run("replay", "no-such-topic", *more) == ExitCode.CONFIGURATION
        assert run("discard", f"{name}.dlq", "--code", "infer.nan", "--reason", "r", *more) == ExitCode.USAGE
    assert run("list", f"{name}.dlq", "--code", "infer.nan") == ExitCode.USAGE
    assert main(["dlq", "replay", "--set", f"kafka.bootstrap_servers={cluster.bootstrap_servers}"]) == ExitCode.USAGE
    assert read(cluster, f"{name}.in") == []


def test_refused_ones_stay_and_exit_4(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Past the attempts' limit, without its value, or too large for its topic: each is told, the others move."""
    make(cluster, f"{name}.small", 1, **{"max.message.bytes": "2000"})
    worn: Any = [("streamer.replay.attempts", b"4")]
    put(
        cluster,
        f"{name}.dlq",
        ours(0, origin=f"{name}.in"),
        ours(1, origin=f"{name}.in", headers=worn),
        ours(2, origin=f"{name}.in", value=b"x" * 3_000, limit_bytes=2_000),
        ours(3, origin=f"{name}.small", value=b"x" * 1_700),
    )
    assert run("replay", f"{name}.dlq", "--execute", "--json") == ExitCode.SOME_FAILED
    (plan,) = json_lines(capsys)
    assert sorted(each["example"] for each in plan["refused"]) == [f"{name}.dlq/0/{n}" for n in (1, 2, 3)]
    assert len(read(cluster, f"{name}.in")) == 1
    assert read(cluster, f"{name}.small") == []


def test_discarded_ones_are_gone_from_sight(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not listed, not replayed, shown with --all; a dry run closes none."""
    put(cluster, f"{name}.dlq", ours(0, origin=f"{name}.in"), ours(1, origin=f"{name}.in"))
    discard = ("discard", f"{name}.dlq", "--origin-offsets", "100", "--reason", "spam")
    assert run(*discard) == ExitCode.DONE
    capsys.readouterr()
    assert run("list", f"{name}.dlq", "--json") == ExitCode.DONE
    assert len(json_lines(capsys)) == 2
    assert run(*discard, "--execute") == ExitCode.DONE
    capsys.readouterr()
    assert run("list", f"{name}.dlq", "--json") == ExitCode.DONE
    assert [each["offset"] for each in json_lines(capsys)] == [1]
    assert run("list", f"{name}.dlq", "--all", "--json") == ExitCode.DONE
    states = [each["state"] and each["state"]["reason"] for each in json_lines(capsys)]
    assert states == ["spam", None]
    assert run("replay", f"{name}.dlq", "--execute") == ExitCode.DONE
    assert len(read(cluster, f"{name}.in")) == 1


def test_an_edit_goes_back_changed(
    cluster: KafkaConfig,
    run: Run,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By a patch, and in an editor, where a line taken out stays a dead letter."""
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in", key=b"%d" % n) for n in range(4)))
    assert run("edit", f"{name}.dlq", "--key", "0", "--patch", '{"text": "fixed"}', "--execute") == ExitCode.DONE
    monkeypatch.setenv("EDITOR", "sed -i -e s/hi/HI/ -e 1d")
    monkeypatch.delenv("VISUAL", raising=False)
    assert run("edit", f"{name}.dlq", "--execute") == ExitCode.DONE
    values = {record.key(): json.loads(record.value() or b"")["text"] for record in read(cluster, f"{name}.in")}
    assert values == {b"0": "fixed", b"2": "HI", b"3": "HI"}
    for editor, words in (("false", "ended with 1"), ("no-such-editor", "can't be started"), ("sed -i s/k/K/", "")):
        monkeypatch.setenv("EDITOR", editor)
        assert run("edit", f"{name}.dlq", "--execute") == ExitCode.USAGE
        assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("streamer-dlq-*/*")] == ["dead-letters.jsonl"]  # sed's
    monkeypatch.delenv("EDITOR")
    assert run("edit", f"{name}.dlq", "--execute") == ExitCode.USAGE
    assert run("edit", f"{name}.dlq", "--patch", "[1]") == ExitCode.USAGE
    assert len(read(cluster, f"{name}.in")) == 3


@pytest.mark.case(88)
def test_an_edit_of_nothing_moves_nothing_and_a_slip_costs_nothing(
    cluster: KafkaConfig,
    run: Run,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nor does a patch that changes nothing. A line that is wrong is named, and its file is kept to go on with."""
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in", key=b"%d" % n) for n in range(3)))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "touch")
    assert run("edit", f"{name}.dlq", "--execute") == ExitCode.DONE
    assert "nothing was changed" in capsys.readouterr().err
    assert not list(tmp_path.glob("streamer-dlq-*"))
    assert run("edit", f"{name}.dlq", "--patch", '{"text": "hi"}', "--execute") == ExitCode.SOME_FAILED
    assert "3  stay: it was not changed" in capsys.readouterr().out
    assert read(cluster, f"{name}.in") == []

    monkeypatch.setenv("EDITOR", "sed -i -e 1s/hi/HI/ -e 2s/hi/secret/ -e 2s/}$/,/")
    assert run("edit", f"{name}.dlq", "--execute") == ExitCode.USAGE
    told = capsys.readouterr().err
    (kept,) = tmp_path.glob("streamer-dlq-*/dead-letters.jsonl")
    assert f"{kept}, line 2: not a JSON object" in told
    assert f"--from {kept}" in told
    assert "secret" not in told
    assert kept.stat().st_mode & 0o077 == 0 or kept.parent.stat().st_mode & 0o077 == 0
    kept.write_text(kept.read_text().replace("secret", "SECRET").replace(",\n", "}\n"))
    assert run("edit", f"{name}.dlq", "--from", str(kept), "--execute") == ExitCode.DONE
    values = {record.key(): json.loads(record.value() or b"")["text"] for record in read(cluster, f"{name}.in")}
    assert values == {b"0": "HI", b"1": "SECRET"}


def test_a_topic_made_anew_is_told_from_the_one_before(cluster: KafkaConfig) -> None:
    """Whatever a machine remembers of a topic is of the topic with that id."""
    topic, log, admin = uuid4().hex[:8], TopicLog(cluster), connect(cluster)
    assert log.identity(topic) is None
    seen = []
    for _ in range(2):
        make(cluster, topic, 1)
        seen.append(log.identity(topic))
        admin.delete_topics([topic])[topic].result()
        wait_for(lambda: log.identity(topic) is None)
    assert all(seen)
    assert seen[0] != seen[1]


def test_export_and_import_keep_every_byte(
    cluster: KafkaConfig, run: Run, name: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Also nulls, empty and binary values, and a record of a megabyte; to another topic or to its own. Times are kept
    only when that is asked for."""
    put(
        cluster,
        f"{name}.dlq",
        ours(0, value=BINARY, key=BINARY, headers=[("odd", BINARY), ("null", None), ("empty", b"")]),
        ours(1, value=b"", key=b""),
        foreign(SPRING, value=None),
        partition=1,
    )
    kafka = KafkaConfig(
        bootstrap_servers=cluster.bootstrap_servers,
        properties={"message.max.bytes": 1_100_000, "batch.size": 1_100_000},
    )
    put(kafka, f"{name}.dlq", ours(0, value=b"x" * 1_050_000), partition=1)
    make(cluster, f"{name}.copy", 2, **{"max.message.bytes": "1112588"})
    capfdbinary.readouterr()
    assert run("export", f"{name}.dlq") == ExitCode.DONE
    file = tmp_path / "letters.jsonl"
    file.write_bytes(capfdbinary.readouterr().out)
    assert run("import", str(file), "--to", f"{name}.copy", "--keep-times") == ExitCode.DONE

    def parts(topic: str) -> list[Any]:
        return [(r.partition(), r.key(), r.value(), r.headers(), r.timestamp()) for r in read(cluster, topic)]

    assert len(parts(f"{name}.copy")) == 4
    assert parts(f"{name}.copy") == parts(f"{name}.dlq")
    before = {record.timestamp() for record in read(cluster, f"{name}.dlq")}
    assert run("import", str(file)) == ExitCode.DONE
    again = read(cluster, f"{name}.dlq")[4:]
    assert len(again) == 4
    assert min(record.timestamp() for record in again) > max(before)


def test_a_file_with_a_fault_is_not_imported(
    cluster: KafkaConfig, run: Run, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in part either: a wrong line, a missing topic or partition, an empty or missing file."""
    put(cluster, f"{name}.dlq", ours(), partition=1)
    capfd.readouterr()
    assert run("export", f"{name}.dlq") == ExitCode.DONE
    line = capfd.readouterr().out
    make(cluster, f"{name}.one", 1)
    file = tmp_path / "letters.jsonl"
    file.write_text(line + "secret nonsense\n")
    assert run("import", str(file), "--to", f"{name}.dlq") == ExitCode.USAGE
    told = capfd.readouterr().err
    assert "line 2: not a JSON object" in told
    assert "secret" not in told
    file.write_text(line)
    assert run("import", str(file), "--to", f"{name}.one") == ExitCode.USAGE
    assert run("import", str(file), "--to", f"{name}.none") == ExitCode.CONFIGURATION
    assert run("import", str(file), "--to", "__consumer_offsets") == ExitCode.USAGE
    file.write_text("\n")
    assert run("import", str(file)) == ExitCode.USAGE
    assert run("import", str(tmp_path / "none")) == ExitCode.USAGE
    assert len(read(cluster, f"{name}.dlq")) == 1
    assert read(cluster, f"{name}.one") == []


def test_a_copier_commits_all_or_nothing_and_alone(cluster: KafkaConfig, name: str) -> None:
    """What is not committed is never seen; a second copier of the same topic ends the first, which is told so."""
    killed = Producer({"bootstrap.servers": cluster.bootstrap_servers, "transactional.id": f"streamer.dlq.{name}.dlq"})
    killed.init_transactions()
    killed.begin_transaction()
    killed.produce(f"{name}.in", b"never", partition=0)
    killed.flush()
    older = TransactionalCopier(cluster, f"{name}.dlq", [1_048_588])
    older.commit([(f"{name}.in", 0, None, b"1", []), (f"{name}.in", 1, None, b"2", [])])
    newer = TransactionalCopier(cluster, f"{name}.dlq", [1_048_588])
    newer.commit([(f"{name}.in", 0, None, b"3", [])])
    with pytest.raises(CopierFencedError, match="another process") as raised:
        older.commit([(f"{name}.in", 0, None, b"4", [])])
    assert raised.value.exit_code == ExitCode.FENCED
    for each in (older, newer):
        each.close()
    killed.purge()
    with suppress(KafkaException):
        killed.close()
    assert sorted(record.value() or b"" for record in read(cluster, f"{name}.in")) == [b"1", b"2", b"3"]


def test_a_record_that_the_broker_refuses_takes_its_transaction_with_it(cluster: KafkaConfig, name: str) -> None:
    """The message names the topic and the limit; nothing of that transaction is written, the next one is."""
    make(cluster, f"{name}.small", 1, **{"max.message.bytes": "2000"})
    copier = TransactionalCopier(cluster, f"{name}.dlq", [1_048_588])
    with pytest.raises(ConfigurationError, match=f"max.message.bytes of topic {name}.small"):
        copier.commit([(f"{name}.in", 0, None, b"1", []), (f"{name}.small", 0, None, b"x" * 5_000, [])])
    copier.commit([(f"{name}.in", 0, None, b"2", [])])
    copier.close()
    assert [record.value() for record in read(cluster, f"{name}.in")] == [b"2"]


def test_a_scan_ends_where_it_began_to_look(cluster: KafkaConfig, name: str) -> None:
    """Also behind transaction markers, and while more comes; `starts` and `ends` bound it further."""
    copier = TransactionalCopier(cluster, f"{name}.dlq", [1_048_588])
    for number in range(3):
        copier.commit([(f"{name}.in", 0, None, b"%d" % number, []), (f"{name}.in", 1, None, b"%d" % number, [])])

    def values(scan: Scan) -> list[tuple[int, bytes | None]]:
        with scan:
            copier.commit([(f"{name}.in", 0, None, b"later", []), (f"{name}.in", 3, None, b"later", [])])
            return sorted((each.partition(), each.value()) for batch in scan.batches() for each in batch)

    assert values(Scan(cluster, f"{name}.in")) == [(p, b"%d" % n) for p in (0, 1) for n in range(3)]
    bounded = Scan(cluster, f"{name}.in", starts={0: 2}, ends={0: 5, 3: 0})
    assert bounded.span == 3
    assert values(bounded) == [(0, b"1"), (0, b"2")]
    copier.close()


def test_the_operators_topics_are_theirs(kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`topics create` makes state and audit, `topics check` asks for them, and `run` does not. Without a TOPIC the
    dead-letter topics of the configuration are looked at."""
    name = uuid4().hex[:8]
    path = tmp_path / "streamer.toml"
    path.write_text(
        f'[kafka]\nbootstrap_servers = "{kafka.bootstrap_servers}"\n[telemetry]\nspans = ""\nreports = ""\n'
        f'[pipelines.p]\ntask = "t"\nmodel = "builtin:null"\ninput = "{name}.in"\noutput = "{name}.out"\n'
    )
    config = load(path)
    admin = connect(config.kafka)
    create(admin, config, input_partitions=1)
    infos = describe(admin, config.kafka, [STATE_TOPIC, AUDIT_TOPIC])
    assert all(infos.values())
    assert main(["dlq", "list", "--config", str(path)]) == ExitCode.DONE
    assert f"no dead letters in {name}.out.dlq" in capsys.readouterr().err
    put(config.kafka, f"{name}.out.dlq", ours())
    assert main(["dlq", "causes", "--config", str(path)]) == ExitCode.DONE
    assert "infer.exception" in capsys.readouterr().out
    admin.delete_topics([AUDIT_TOPIC])[AUDIT_TOPIC].result()
    wait_for(lambda: describe(admin, config.kafka, [AUDIT_TOPIC])[AUDIT_TOPIC] is None)
    assert [finding.topic for finding in check(admin, config, operator=True)] == [AUDIT_TOPIC]
    assert check(admin, config) == []
    assert create(admin, config) == [AUDIT_TOPIC]
    assert check(admin, config, operator=True) == []
