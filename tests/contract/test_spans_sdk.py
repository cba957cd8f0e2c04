"""Our span encoder and OpenTelemetry's own say the same of the same span."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AnyValue

from streamer.telemetry.otlp import SCHEMA_URL, OtlpEncoder
from streamer.telemetry.spans import Link, MicroBatchSpan, RecordSpan, Span

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
RESOURCE = Resource(
    {"service.name": "streamer", "service.version": "1", "service.instance.id": "slot-0"}, schema_url=SCHEMA_URL
)
PROCESS = {
    "messaging.system": "kafka",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": "in",
}


def context(trace_id: int, span_id: int, *, remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=remote, trace_flags=SAMPLED)


def by_sdk(span: ReadableSpan) -> ExportTraceServiceRequest:
    request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(encode_spans([span]).SerializeToString())
    return request


def by_us(span: Span) -> ExportTraceServiceRequest:
    ((message, _),) = OtlpEncoder("slot-0", "1").encode([span])
    request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(message)
    return request


def normal(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """Without what may differ: the order of attributes, an empty status, and the W3C flags in the low byte of a span's
    flags, which the protocol asks for and the SDK leaves out."""
    for resource_spans in request.resource_spans:
        holders: list[Any] = [resource_spans.resource]
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.flags &= ~0xFF
                if span.status.code == span.status.STATUS_CODE_UNSET:
                    span.ClearField("status")
                holders += [span, *span.links]
        for holder in holders:
            attributes = sorted(holder.attributes, key=lambda one: one.key)
            del holder.attributes[:]
            holder.attributes.extend(attributes)
    return request


def sdk_span(**fields: Any) -> ReadableSpan:
    return ReadableSpan(
        name="process in",
        kind=SpanKind.CONSUMER,
        resource=RESOURCE,
        instrumentation_scope=InstrumentationScope("streamer", "1", SCHEMA_URL),
        **fields,
    )


@pytest.mark.promise(10)
def test_a_record_span_is_what_the_sdk_would_send() -> None:
    """A failed record, child of its producer's remote context."""
    theirs = sdk_span(
        context=context(2**127 + 5, 77),
        parent=context(2**127 + 5, 9, remote=True),
        attributes={
            **PROCESS,
            "messaging.destination.partition.id": "3",
            "messaging.kafka.offset": 1234567,
            "streamer.outcome": "dead_letter",
            "error.type": "infer.nan",
        },
        status=Status(StatusCode.ERROR, "infer.nan"),
        start_time=10**18,
        end_time=10**18 + 5,
    )
    ours = RecordSpan(2**127 + 5, 77, 9, 10**18, 10**18 + 5, "in", 3, 1234567, "dead_letter", "infer.nan")
    assert normal(by_us(ours)) == normal(by_sdk(theirs))


@pytest.mark.promise(10)
def test_a_micro_batch_span_is_what_the_sdk_would_send() -> None:
    """A root span with a link to a record's context."""
    link: dict[str, AnyValue] = {
        "messaging.destination.name": "in",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 8,
    }
    theirs = sdk_span(
        context=context(1, 2),
        parent=None,
        attributes={
            **PROCESS,
            "messaging.consumer.group.name": "g",
            "messaging.batch.message_count": 5,
            "streamer.pipeline": "p",
            "streamer.dead_letters": 1,
        },
        links=[SdkLink(context(3, 4, remote=True), link)],
        status=Status(StatusCode.UNSET),
        start_time=1,
        end_time=2,
    )
    ours = MicroBatchSpan(1, 2, 1, 2, "p", ("in",), "g", 5, [Link(3, 4, "in", 0, 8)], {"dead_letters": 1})
    assert normal(by_us(ours)) == normal(by_sdk(theirs))
