"""Spans of micro-batches, and of records whose producer sent a trace context."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from streamer.app.driver import Observer
from streamer.core.pipeline.pass_spans import Forwarded
from streamer.core.pipeline.protocol import ForwardDone, Input
from streamer.core.record import Answer, MicroBatch, Segment
from streamer.core.timestamps import written_ms
from streamer.errors import DataFailure
from streamer.telemetry.catalogue import EVENT_LATENCY
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.spans import EncodedSpans, ForwardSpan, Link, MicroBatchSpan, RecordSpan, SpanExporter

GenAi = Callable[[Forwarded], Mapping[str, str | int]]
"""The attributes of the conventions for generative AI that the span of a forward batch gets."""

_OPERATIONS: Final = {
    "embedding": "embeddings",
    **dict.fromkeys(("summarization", "translation", "text2text-generation", "text-generation"), "text_completion"),
}


def gen_ai(task: str, model: str) -> GenAi | None:
    """For a task that these conventions know; there is none for classification and the like."""
    operation = _OPERATIONS.get(task)
    if operation is None:
        return None
    constant = {"gen_ai.operation.name": operation, "gen_ai.provider.name": "streamer", "gen_ai.request.model": model}

    def attributes(one: Forwarded) -> Mapping[str, str | int]:
        usage = {"gen_ai.usage.input_tokens": one.tokens}
        if operation != "embeddings":
            usage["gen_ai.usage.output_tokens"] = one.output_tokens
        return {**constant, **usage}

    return attributes


class Tracer(Observer):
    """Ends the spans of micro-batches, of records whose producer sampled them, and of forward batches."""

    def __init__(
        self, exporter: SpanExporter, metrics: Metrics, pipeline: str, group: str, gen_ai: GenAi | None = None
    ) -> None:
        self._metrics = metrics
        self._gen_ai = gen_ai
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
                one.output_tokens,
                one.error,
                self._gen_ai(one) if self._gen_ai is not None else {},
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
        if (oldest := _oldest(batch)) is not None:
            then_ms, *ids = oldest
            self._metrics.exemplify(EVENT_LATENCY, end_ns / 1e9 - then_ms / 1e3, *ids)
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


def _oldest(batch: MicroBatch) -> tuple[int, int, int] | None:
    """An example of its latency: when the oldest of the sampled records was written, in milliseconds, and the ids of
    its trace and span. Of a partition without one it is the first record, with the micro-batch's own span."""
    found = []
    for segment in batch.segments:
        index, trace_id, span_id = 0, batch.trace_id, batch.span_id
        if segment.spans is not None and segment.traces is not None:
            index = next(place for place, one in enumerate(segment.spans) if one)
            trace = segment.traces[index]
            trace_id, span_id = trace.trace_id if trace else 0, segment.spans[index]
        then_ms = written_ms(segment.records[index].timestamp())
        if then_ms is not None and not segment.dropped and (segment.spans is not None or batch.sampled):
            found.append((then_ms, trace_id, span_id))
    return min(found, default=None)


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
