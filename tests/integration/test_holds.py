"""`streamer dlq bury` and `release` on a real cluster: what they write, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streamer.cli import main
from streamer.config.load import KafkaConfig
from streamer.core.deadletters.envelope import unwrap
from streamer.core.pipeline.attempts import Note
from streamer.errors import ExitCode
from streamer.kafka.group_copier import Groups
from streamer.kafka.reader import Reader
from streamer.kafka.replay import CopierFencedError
from tests.conftest import Kafka
from tests.otlp_receiver import otlp_receiver

HELD = Note("d", by=["a", "b", "c"], at=1, until=4, held=True)
CARE = Note(until=4, most=1)


class Lab:
    """An input of five records and a dead-letter topic, and a group that has a member."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.name = f"hold{uuid4().hex[:8]}"
        topics = [NewTopic(f"{self.name}.{role}", 1, 1) for role in ("in", "dlq")]
        admin = AdminClient({"bootstrap.servers": address})
        for future in admin.create_topics(topics).values():
            future.result(30)
        producer = Producer({"bootstrap.servers": address})
        for number in range(5):
            trace = b"00-%032x-%016x-01" % (100 + number, 1)
            producer.produce(f"{self.name}.in", b"%d" % number, b"key", headers=[("traceparent", trace)])
        producer.flush(30)
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": self.name, "enable.auto.commit": False})
        self.consumer.subscribe([f"{self.name}.in"])
        while not self.consumer.assignment():
            self.consumer.poll(0.1)

    def commit(self, offset: int, note: Note) -> None:
        """What the pipeline has committed."""
        self.consumer.commit(offsets=[KafkaPartition(f"{self.name}.in", 0, offset, note.write())], asynchronous=False)

    def committed(self) -> tuple[int, Note]:
        """The offset and its note."""
        (found,) = self.consumer.committed([KafkaPartition(f"{self.name}.in", 0)], timeout=10)
        return found.offset, Note.read(found.metadata)

    def dlq(self, command: str, where: str, *more: str) -> int:
        """Run `streamer dlq COMMAND INPUT/WHERE`."""
        fields = {
            "task": "text-classification",
            "model": "builtin:null",
            "input": f"{self.name}.in",
            "output": f"{self.name}.out",
            "dead_letter": f"{self.name}.dlq",
            "group": self.name,
        }
        settings = [f"kafka.bootstrap_servers={self.address}", *(f"pipelines.p.{key}={fields[key]}" for key in fields)]
        options = [word for one in settings for word in ("--set", one)]
        return main(["dlq", command, f"{self.name}.in/{where}", *options, *more])


@pytest.fixture(scope="module")
def lab(kafka: Kafka) -> Iterator[Lab]:
    """One for all: each test commits what it begins with."""
    lab = Lab(kafka.bootstrap_servers)
    yield lab
    lab.consumer.close()


@pytest.mark.case(65)
def test_the_head_of_a_held_partition_is_buried_while_the_group_has_members(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dead letter and the offset behind it are written together; what follows is read with care. A dry run comes
    first, and a second burial finds nothing to bury. The burial is traced, with a link to the record's trace."""
    lab.commit(1, HELD)
    assert lab.dlq("bury", "0/1") == ExitCode.DONE
    assert lab.committed() == (1, HELD)
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.url)
        assert lab.dlq("bury", "0/1", "--yes") == ExitCode.DONE
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ((_, _, body),) = receiver.requests
    (span,) = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
    assert (span.name, [int.from_bytes(link.trace_id, "big") for link in span.links]) == ("bury record", [101])
    assert lab.committed() == (2, CARE)
    assert lab.dlq("bury", "0/1", "--yes") == ExitCode.USAGE
    with Reader(KafkaConfig(bootstrap_servers=lab.address), [f"{lab.name}.dlq"]) as reader:
        letter = list(reader.read_until_end())[-1]
    info = unwrap(letter.headers() or [])
    assert info is not None
    assert (letter.key(), letter.value(), letter.partition()) == (b"key", b"1", 0)
    assert (info.code, info.pipeline, info.partition, info.offset, info.attempts) == ("infer.buried", "p", 0, 1, 3)


@pytest.mark.case(65)
def test_a_released_partition_is_read_again_from_its_head(lab: Lab) -> None:
    """With care, and nobody is blamed any more."""
    lab.commit(1, HELD)
    assert lab.dlq("release", "0") == ExitCode.DONE
    assert lab.committed() == (1, HELD)
    assert lab.dlq("release", "0", "--yes") == ExitCode.DONE
    assert lab.committed() == (1, CARE)


@pytest.mark.case(65)
@pytest.mark.parametrize(
    ("offset", "note", "command", "where", "more", "says"),
    [
        (1, HELD, "bury", "0/2", (), "0/2 is not at its head: "),
        (1, HELD, "bury", "0/0", (), "0/0 was settled before: "),
        (1, Note("d", by=["a"]), "bury", "0/1", (), "0 is not held: p reads on from 1"),
        (2, Note("d"), "release", "0", (), "0 is not held: p reads on from 2"),
        (1, HELD, "bury", "1", (), "write TOPIC/PARTITION/OFFSET"),
        (1, HELD, "release", "x", (), "write TOPIC/PARTITION"),
        (1, HELD, "release", "0/1", (), "write TOPIC/PARTITION without an offset"),
        (1, HELD, "release", "0", ("--pipeline", "q"), "q is not a pipeline that reads "),
        (5, Note("d", by=["a"], at=5, until=6, held=True), "bury", "0/5", (), "0/5 is gone"),
    ],
)
def test_what_is_not_the_head_of_a_held_partition_is_refused(
    lab: Lab,
    capsys: pytest.CaptureFixture[str],
    offset: int,
    note: Note,
    command: str,
    where: str,
    more: tuple[str, ...],
    says: str,
) -> None:
    """In words, and nothing is written."""
    lab.commit(offset, note)
    assert lab.dlq(command, where, "--yes", *more) == ExitCode.USAGE
    assert says in capsys.readouterr().err
    assert lab.committed() == (offset, note)


@pytest.mark.case(65)
def test_of_two_operators_one_ends_the_hold(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while the other one is about to write fences it; who is about to write after the other did, sees
    that the hold has ended."""
    lab.commit(1, HELD)
    kafka = KafkaConfig(bootstrap_servers=lab.address)
    groups = Groups(kafka)
    with groups.open(lab.name, None) as slow:
        assert lab.dlq("bury", "0/1", "--yes") == ExitCode.DONE
        with pytest.raises(CopierFencedError):
            slow.settle([], (f"{lab.name}.in", 0), (1, ""))
    assert lab.committed() == (2, CARE)
    lab.commit(1, HELD)
    opened = Groups.open

    def late(self: Groups, group: str, limit_bytes: int | None) -> object:
        monkeypatch.undo()
        assert lab.dlq("release", "0", "--yes") == ExitCode.DONE
        return opened(self, group, limit_bytes)

    monkeypatch.setattr(Groups, "open", late)
    assert lab.dlq("bury", "0/1", "--yes") == ExitCode.USAGE
    assert lab.committed() == (1, CARE)
