from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from prometheus_client.exposition import choose_encoder

from streamer.app.tracer import Tracer, gen_ai
from streamer.core.pipeline.pass_spans import Forwarded
from streamer.core.record import Answer, MemoryRecord, MicroBatch, Segment, TraceParent
from streamer.core.traceparent import mark_spans
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.otlp import MAX_LINKS, OtlpEncoder, part_span_id
from streamer.telemetry.spans import (
    MAX_BATCH_SPANS,
    MAX_WAITING,
    EncodedSpans,
    ForwardSpan,
    Link,
    MicroBatchSpan,
    RecordSpan,
    Span,
    SpanExporter,
)

ENCODER = OtlpEncoder(slot="host-0", version="1.2.3")


def batch_span(links: int = 0, topics: tuple[str, ...] = ("reviews",)) -> MicroBatchSpan:
    return MicroBatchSpan(
        trace_id=0xABC,
        span_id=0xDEF,
        start_ns=1_700_000_000_000_000_000,
        end_ns=1_700_000_000_250_000_000,
        pipeline="sentiment",
        topics=topics,
        group="streamer.sentiment",
        record_count=4000,
        links=[Link(1 + n, 2 + n, "reviews", n % 3, 10**12 + n) for n in range(links)],
        counts={"results": 3990, "dead_letters": 10},
    )


def record_span(code: str = "", offset: int = 42, number: int = 1) -> RecordSpan:
    return RecordSpan(
        trace_id=2**128 - number,
        span_id=2**64 - number,
        parent_span_id=7,
        start_ns=5,
        end_ns=9,
        topic="reviews",
        partition=3,
        offset=offset,
        outcome="dead_letter" if code else "result",
        code=code,
    )


def decoded(message: bytes) -> list[SpanMessage]:
    request = ExportTraceServiceRequest.FromString(message)
    (resource_spans,) = request.resource_spans
    (scope_spans,) = resource_spans.scope_spans
    return list(scope_spans.spans)


def spans_of(*spans: Span) -> list[SpanMessage]:
    return [span for message, _ in ENCODER.encode(spans) for span in decoded(message)]


def facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def test_resource_and_scope_say_who_speaks() -> None:
    """Service, version and slot are on the resource, the program is the scope."""
    ((message, _),) = ENCODER.encode([record_span()])
    (resource_spans,) = ExportTraceServiceRequest.FromString(message).resource_spans
    assert facts(resource_spans.resource.attributes) == {
        "service.name": "streamer",
        "service.version": "1.2.3",
        "service.instance.id": "host-0",
    }
    (scope_spans,) = resource_spans.scope_spans
    assert (scope_spans.scope.name, scope_spans.scope.version) == ("streamer", "1.2.3")
    assert scope_spans.schema_url == resource_spans.schema_url == "https://opentelemetry.io/schemas/1.42.0"


def test_a_record_span_field_by_field() -> None:
    """Ids, times, names and attributes are those of the messaging conventions."""
    (span,) = spans_of(record_span())
    assert span.trace_id == (2**128 - 1).to_bytes(16, "big")
    assert span.span_id == (2**64 - 1).to_bytes(8, "big")
    assert span.parent_span_id == (7).to_bytes(8, "big")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (5, 9)
    assert span.name == "process reviews"
    assert span.kind == SpanMessage.SPAN_KIND_CONSUMER
    assert span.flags == 0x301
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert facts(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "reviews",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 42,
        "streamer.outcome": "result",
    }


def test_a_dead_letters_span_is_an_error() -> None:
    """The status is ERROR and says the code, nothing else."""
    (span,) = spans_of(record_span("infer.nan"))
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert span.status.message == facts(span.attributes)["error.type"] == "infer.nan"


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1))
def test_any_offset_and_time_survive(offset: int, time_ns: int) -> None:
    """Numbers of every length come out as they went in."""
    span = RecordSpan(1, 2, 3, time_ns, time_ns, "t", 0, offset, "result")
    link = Link(1, 2, "t", 0, offset)
    batch = MicroBatchSpan(1, 2, time_ns, time_ns, "p", ("t",), "g", 1, [link])
    record, micro_batch = spans_of(span, batch)
    assert facts(record.attributes)["messaging.kafka.offset"] == offset
    assert record.end_time_unix_nano == micro_batch.start_time_unix_nano == time_ns
    assert facts(micro_batch.links[0].attributes)["messaging.kafka.offset"] == offset


def test_a_micro_batch_span_field_by_field() -> None:
    """A root span with group, count and a link for each record that came with a context."""
    (span,) = spans_of(batch_span(links=2))
    assert span.trace_id == (0xABC).to_bytes(16, "big")
    assert span.span_id == (0xDEF).to_bytes(8, "big")
    assert span.parent_span_id == b""
    assert span.name == "process reviews"
    assert span.kind == SpanMessage.SPAN_KIND_CONSUMER
    assert span.end_time_unix_nano - span.start_time_unix_nano == 250_000_000
    assert facts(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "reviews",
        "messaging.consumer.group.name": "streamer.sentiment",
        "messaging.batch.message_count": 4000,
        "streamer.pipeline": "sentiment",
        "streamer.results": 3990,
        "streamer.dead_letters": 10,
    }
    assert [link.trace_id for link in span.links] == [(1).to_bytes(16, "big"), (2).to_bytes(16, "big")]
    assert [link.span_id for link in span.links] == [(2).to_bytes(8, "big"), (3).to_bytes(8, "big")]
    assert [facts(link.attributes) for link in span.links] == [
        {
            "messaging.destination.name": "reviews",
            "messaging.destination.partition.id": str(number),
            "messaging.kafka.offset": 10**12 + number,
        }
        for number in range(2)
    ]


def test_several_topics_are_named_on_the_links_only() -> None:
    """A micro-batch of two topics has no single destination."""
    (span,) = spans_of(batch_span(links=1, topics=("a", "b")))
    assert span.name == "process"
    assert "messaging.destination.name" not in facts(span.attributes)


def test_more_links_than_a_span_takes_make_children() -> None:
    """2,500 links: three spans of the same trace, numbered, no link lost and none twice."""
    spans = spans_of(batch_span(links=2500))
    assert [len(span.links) for span in spans] == [MAX_LINKS, MAX_LINKS, 500]
    assert [span.parent_span_id for span in spans] == [b"", *[(0xDEF).to_bytes(8, "big")] * 2]
    assert len({span.span_id for span in spans}) == 3
    assert len({span.trace_id for span in spans}) == 1
    parts = [facts(span.attributes) for span in spans]
    assert [(one["streamer.links.part"], one["streamer.links.parts"]) for one in parts] == [(1, 3), (2, 3), (3, 3)]
    assert ["messaging.batch.message_count" in one for one in parts] == [True, False, False]
    assert sorted(int.from_bytes(link.trace_id, "big") for span in spans for link in span.links) == [*range(1, 2501)]


@given(st.integers(1, 2**64 - 1), st.integers(0, 100))
def test_a_parts_span_id_is_valid(span_id: int, part: int) -> None:
    """64 bits and not 0, which would be no id; part 0 is the span itself."""
    assert 0 < part_span_id(span_id, part) < 2**64
    assert part_span_id(span_id, 0) == span_id


@settings(max_examples=10)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8), st.sampled_from(["t", "t" * 249]))
def test_messages_stay_below_the_limit_and_lose_nothing(link_counts: list[int], topic: str) -> None:
    """However many links and however long the names: below 900 kB, all spans there, each counted once."""
    spans = [
        MicroBatchSpan(1, 1 + n, 2, 3, "p", (topic,), "g", 1, [Link(1, 2, topic, 0, 3)] * count)
        for n, count in enumerate(link_counts)
    ]
    messages = ENCODER.encode(spans)
    assert max(len(message) for message, _ in messages) < 900_000
    assert sum(count for _, count in messages) == len(spans)
    assert sum(len(span.links) for message, _ in messages for span in decoded(message)) == sum(link_counts)


class Wire:
    """Where spans go: remembers, and may refuse, raise or hold."""

    def __init__(self) -> None:
        self.spans: list[SpanMessage] = []
        self.messages = 0
        self.takes = True
        self.raises = False
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.counts = {"sent": 0, "dropped": 0}

    def send(self, message: bytes, spans: int) -> bool:
        self.entered.set()
        assert self.open.wait(10)
        if self.raises:
            raise RuntimeError("canary")
        if self.takes:
            self.messages += 1
            self.spans += decoded(message)
        return self.takes

    def count(self, outcome: str, spans: int) -> None:
        self.counts[outcome] += spans


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_flush_sends_all_in_batches_of_512(wire: Wire) -> None:
    """Everything offered goes out, at most 512 spans a message."""
    exporter = SpanExporter(wire.send, ENCODER, wire.count)
    exporter.offer([record_span(offset=offset, number=1 + offset) for offset in range(1300)])
    assert exporter.flush(10)
    assert [facts(span.attributes)["messaging.kafka.offset"] for span in wire.spans] == [*range(1300)]
    assert wire.messages == 3
    exporter.close(5)
    assert wire.counts == {"sent": 1300, "dropped": 0}


def test_spans_go_out_by_themselves_after_a_second(wire: Wire) -> None:
    """A few spans wait for more, but not long."""
    exporter = SpanExporter(wire.send, ENCODER, wire.count)
    exporter.offer([record_span()])
    assert wire.entered.wait(5)
    exporter.close(5)
    assert len(wire.spans) == 1


@pytest.mark.case(36)
def test_a_full_queue_drops_and_counts(wire: Wire) -> None:
    """While the wire hangs the queue fills, then spans are dropped; offering never blocks."""
    wire.open.clear()
    exporter = SpanExporter(wire.send, ENCODER, wire.count)
    exporter.offer([record_span()] * MAX_BATCH_SPANS)
    assert wire.entered.wait(5)
    exporter.offer([record_span()] * (MAX_WAITING + 10))
    assert wire.counts["dropped"] == 10
    exporter.offer([batch_span(links=1)])
    assert wire.counts["dropped"] == 11
    wire.open.set()
    assert exporter.flush(30)
    exporter.close(5)
    assert wire.counts == {"sent": MAX_BATCH_SPANS + MAX_WAITING, "dropped": 11}


@pytest.mark.case(36)
def test_refused_spans_are_counted(wire: Wire) -> None:
    """A producer that takes nothing costs the spans and nothing else."""
    wire.takes = False
    exporter = SpanExporter(wire.send, ENCODER, wire.count)
    exporter.offer([record_span()] * 3)
    assert exporter.flush(5)
    assert wire.counts == {"sent": 0, "dropped": 3}
    exporter.close(5)


def test_a_wire_that_raises_stops_nothing(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged by its class alone, the spans count as dropped, later ones go out."""
    exporter = SpanExporter(wire.send, ENCODER, wire.count)
    wire.raises = True
    exporter.offer([record_span()] * 3)
    assert exporter.flush(5)
    wire.raises = False
    exporter.offer([record_span()])
    exporter.close(5)
    assert wire.counts == {"sent": 1, "dropped": 3}
    assert "canary" not in caplog.text


def test_close_keeps_its_time_and_counts_the_rest(wire: Wire) -> None:
    """A wire that hangs does not hold up the end; what waited is dropped, later offers too."""
    wire.open.clear()
    exporter = SpanExporter(wire.send, ENCODER, wire.count)
    exporter.offer([record_span()] * MAX_BATCH_SPANS)
    assert wire.entered.wait(5)
    exporter.offer([record_span()] * 2)
    assert not exporter.flush(0.05)
    exporter.close(0.05)
    assert wire.counts["dropped"] == 2
    exporter.offer([record_span()])
    assert wire.counts["dropped"] == 3
    wire.open.set()
    exporter.close(5)
    assert wire.counts == {"sent": MAX_BATCH_SPANS, "dropped": 3}


def test_a_forward_span_is_a_child_with_links() -> None:
    """Of the micro-batch's span, with what was computed; one that raised is an error. gen_ai attributes lie over it."""
    parent, other = bytes(15) + b"\x05" + bytes(7) + b"\x06", bytes(15) + b"\x07" + bytes(7) + b"\x08"
    attributes = gen_ai("text-generation", "some/model")
    assert attributes is not None
    one = Forwarded(parent, b"12345678", [other], 3, 9, 32, 700, 50, "ValueError")
    gave = attributes(one)
    (span,) = spans_of(ForwardSpan(parent, b"12345678", [other], 3, 9, "p", 1, 32, 700, 50, "ValueError", gave))
    assert (span.trace_id, span.parent_span_id, span.span_id) == (parent[:16], parent[16:], b"12345678")
    assert [(link.trace_id, link.span_id) for link in span.links] == [(other[:16], other[16:])]
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.name) == (3, 9, "forward")
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert facts(span.attributes) == {
        "streamer.pipeline": "p",
        "streamer.worker": 1,
        "streamer.records": 32,
        "streamer.tokens": 700,
        "streamer.output_tokens": 50,
        "error.type": "ValueError",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "streamer",
        "gen_ai.request.model": "some/model",
        "gen_ai.usage.input_tokens": 700,
        "gen_ai.usage.output_tokens": 50,
    }
    embeds = gen_ai("embedding", "m")
    assert embeds is not None
    assert embeds(one)["gen_ai.operation.name"] == "embeddings"
    assert "gen_ai.usage.output_tokens" not in embeds(one)
    assert gen_ai("text-classification", "m") is None


def test_what_others_encoded_goes_out_as_it_is(wire: Wire) -> None:
    """Each of its spans counts."""
    ((message, _),) = ENCODER.encode([record_span(number=1), record_span(number=2)])
    exporter = SpanExporter(wire.send, ENCODER, wire.count)
    exporter.offer([EncodedSpans(message, 2), record_span(number=3)])
    exporter.close(5)
    assert len(wire.spans) == 3
    assert wire.counts == {"sent": 3, "dropped": 0}


def test_the_latency_names_a_record_that_is_traced(wire: Wire) -> None:
    """The oldest sampled one of a micro-batch, else its first by the micro-batch's own trace; none where that is not
    sampled either."""
    now_ms = int(time.time() * 1000)

    def named(sampled: bool, *, batch_sampled: bool = True) -> str:
        metrics, exporter = Metrics("p"), SpanExporter(wire.send, ENCODER, wire.count)
        records = [MemoryRecord("t", 0, offset, None, b"", [], now_ms - 60_000 + offset) for offset in range(3)]
        traces = [None, TraceParent(0xA, 1, sampled), None]
        segment = Segment("t", 0, 0, list(records), traces=traces, outcomes=[Answer(b"{}")] * 3)
        batch = MicroBatch(1, [segment], 0xB, 2, time.time_ns(), sampled=batch_sampled)
        mark_spans(batch, 9)
        Tracer(exporter, metrics, "p", "g").micro_batch_done(batch)
        exporter.close(5)
        return choose_encoder("application/openmetrics-text; version=1.0.0")[0](metrics.registry).decode()

    assert f'trace_id="{0xA:032x}"' in named(True)
    assert f'trace_id="{0xB:032x}"' in named(False)
    assert "trace_id" not in named(False, batch_sampled=False)
