"""Spans of micro-batches, and of records whose producer sent a trace context."""

from __future__ import annotations

import time

from streamer.app.driver import Observer
from streamer.core.pipeline.protocol import ForwardDone, Input
from streamer.core.record import Answer, MicroBatch, Segment
from streamer.errors import DataFailure
from streamer.telemetry.spans import EncodedSpans, ForwardSpan, Link, MicroBatchSpan, RecordSpan, SpanExporter


class Tracer(Observer):
    """Ends the spans of micro-batches, of records whose producer sampled them, and of forward batches."""

    def __init__(self, exporter: SpanExporter, pipeline: str, group: str) -> None:
        self._exporter = exporter
        self._pipeline = pipeline
        self._group = group

    def facts(self, fact: Input) -> None:
        """Give the spans of forward batches, and those of the model's own code, to the exporter."""
        if type(fact) is not ForwardDone or not (fact.forwarded or fact.code_spans):
            return
        own = [
            ForwardSpan(
                one.parent,
                one.span_id,
                one.links,
                one.start_ns,
                one.end_ns,
                self._pipeline,
                fact.worker,
                one.records,
                one.tokens,
                one.error,
            )
            for one in fact.forwarded
        ]
        self._exporter.offer([*own, *(EncodedSpans(each.message, each.spans) for each in fact.code_spans)])

    def micro_batch_done(self, batch: MicroBatch) -> None:
        """Give the micro-batch's spans to the exporter."""
        end_ns = time.time_ns()
        links: list[Link] = []
        records: list[RecordSpan] = []
        for segment in batch.segments:
            if segment.traces is not None:
                links += _links(segment)
            if segment.spans is not None and not segment.dropped:
                records += _record_spans(segment, batch.taken_ns, end_ns)
        if not batch.sampled:
            self._exporter.offer(records)
            return
        size = sum(len(segment.records) for segment in batch.segments)
        dropped = sum(len(segment.records) for segment in batch.segments if segment.dropped)
        span = MicroBatchSpan(
            batch.trace_id,
            batch.span_id,
            batch.taken_ns,
            end_ns,
            self._pipeline,
            tuple(sorted({segment.topic for segment in batch.segments})),
            self._group,
            size,
            links,
            {"dead_letters": sum(segment.failures for segment in batch.segments), "dropped": dropped},
        )
        self._exporter.offer([span, *records])


def _links(segment: Segment) -> list[Link]:
    topic, partition = segment.topic, segment.partition
    return [
        Link(trace.trace_id, trace.span_id, topic, partition, record.offset())
        for record, trace in zip(segment.records, segment.traces or (), strict=True)
        if trace is not None
    ]


def _record_spans(segment: Segment, start_ns: int, end_ns: int) -> list[RecordSpan]:
    spans = []
    columns = zip(segment.spans or (), segment.traces or (), segment.records, segment.outcomes, strict=True)
    for span_id, trace, record, outcome in columns:
        if not span_id or trace is None or outcome is None:
            continue
        kind, code = "result", ""
        if isinstance(outcome, DataFailure):
            kind, code = "dead_letter", outcome.code.value
        elif not isinstance(outcome, Answer):
            kind, code = "skipped", outcome.reason
        place = (segment.topic, segment.partition, record.offset())
        spans.append(RecordSpan(trace.trace_id, span_id, trace.span_id, start_ns, end_ns, *place, kind, code))
    return spans
