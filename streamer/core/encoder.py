"""From outcomes to output records: the loop of the sink thread.

A result's JSON is a template per input partition with five holes: measured at 0.2 µs, against 0.45 µs for encoding a
struct. What is equal for all results of a pipeline, partition or run is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamer.core.codec import event_id
from streamer.core.deadletters.envelope import wrap
from streamer.core.headers import CE_ID, CE_SOURCE, CE_SPECVERSION, CE_TYPE, CONTENT_TYPE, TRACEPARENT
from streamer.core.output import RECORD_BYTES, Output, headers_size_bytes
from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, Headers, Record, Segment, TopicPartition
from streamer.core.report import ReportBuilder
from streamer.core.traceparent import only_trace, render
from streamer.errors import Code, DataFailure

RESULT_TYPE = "streamer.result.v1"

_MAX_OFFSET_DIGITS = 19
_NO_TIMESTAMP_MS = -1  # Kafka's own word for a record without timestamp

_encode_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """`max.message.bytes` of the output and of the dead-letter topic."""

    result_bytes: int
    dead_letter_bytes: int


@dataclass(frozen=True, slots=True)
class _Template:
    """What is constant in the results of one input partition. `room_bytes` is for key and value together."""

    value: bytes
    ce_id: bytes
    room_bytes: int


class Encoder:
    """Encodes the outcomes of one pipeline, served by one model."""

    def __init__(
        self,
        *,
        pipeline: str,
        task: str,
        card: ModelCard,
        output_topic: str,
        dead_letter_topic: str,
        limits: OutputLimits,
    ) -> None:
        self._pipeline = pipeline
        self._task = task
        self._card = card
        self._output_topic = output_topic
        self._dead_letter_topic = dead_letter_topic
        self._limits = limits
        self._head = (CE_SPECVERSION, b"1.0")
        self._tail: Headers = [
            (CE_SOURCE, f"/streamer/{pipeline}".encode()),
            (CE_TYPE, RESULT_TYPE.encode()),
            (CONTENT_TYPE, b"application/json"),
        ]
        self._templates: dict[TopicPartition, _Template] = {}

    def encode(self, run: Run, now_ms: int, report: ReportBuilder | None = None) -> list[Output]:
        """The output records of a run, in input order: a result for an answer, a dead letter for a failure, nothing
        for a skipped record. All go to the input's partition number.

        An answer whose result does not fit the output topic is replaced in the segment by the failure
        `publish.too_large`. The run is then added to the report.
        """
        segment = run.segment
        partition, events, outcomes, spans = segment.partition, segment.events, segment.outcomes, segment.spans
        template = self._template(segment.topic, partition)
        value_template, ce_id, room_bytes = template.value, template.ce_id, template.room_bytes
        topic, head = self._output_topic, self._head
        source, type_, content_type = self._tail
        batch_trace = trace = (TRACEPARENT, render(run.batch.trace_id, run.batch.span_id))
        outputs: list[Output] = []
        append = outputs.append
        for index, record in enumerate(segment.records[run.first : run.last], run.first):
            outcome = outcomes[index]
            if type(outcome) is Answer:
                event = events[index]
                assert event is not None  # what has an answer was decoded
                given_id = event.id
                if given_id is None or ((named := record.headers()) and not only_trace(named)):
                    given_id = event_id(record, event)
                elif type(given_id) is int:
                    given_id = str(given_id)
                offset = record.offset()
                kind, timestamp_ms = record.timestamp()
                key = record.key()
                value = value_template % (
                    _encode_json(given_id),
                    outcome.output,
                    b"true" if outcome.cached else b"false",
                    b"true" if outcome.truncated else b"false",
                    offset,
                    timestamp_ms if kind else _NO_TIMESTAMP_MS,
                    b"}" if event.metadata is None else b',"metadata":%b}' % bytes(event.metadata),
                )
                if len(value) + (len(key) if key else 0) <= room_bytes:
                    if spans is not None:
                        trace = self._trace(segment, index) or batch_trace
                    headers: Headers = [head, (CE_ID, ce_id % offset), source, type_, content_type, trace]
                    append((topic, partition, key, value, headers))
                    continue
                outcome = outcomes[index] = self._too_large(len(value))
            if type(outcome) is DataFailure:
                append(self._dead_letter(record, outcome, now_ms))
        if report is not None:
            report.add(run, now_ms)
        return outputs

    def _template(self, topic: str, partition: int) -> _Template:
        template = self._templates.get((topic, partition))
        if template is None:
            card = self._card
            constants = {
                name: _encode_json(text).replace(b"%", b"%%")
                for name, text in (
                    ("pipeline", self._pipeline),
                    ("task", self._task),
                    ("name", card.name),
                    ("revision", card.revision),
                    ("topic", topic),
                )
            }
            value = (
                b'{"id":%%b,"pipeline":%(pipeline)b,"task":%(task)b,"model":{"name":%(name)b,"revision":%(revision)b},'
                b'"output":%%b,"cached":%%b,"truncated":%%b,'
                b'"source":{"topic":%(topic)b,"partition":%(partition)d,"offset":%%d,"timestamp_ms":%%d}%%b'
            ) % {name.encode(): text for name, text in {**constants, "partition": partition}.items()}
            ce_id = f"{self._pipeline}/{topic}/{partition}/".replace("%", "%%").encode() + b"%d"
            largest = [self._head, *self._tail, (CE_ID, ce_id + b"0" * _MAX_OFFSET_DIGITS), (TRACEPARENT, render(0, 0))]
            room_bytes = self._limits.result_bytes - RECORD_BYTES - headers_size_bytes(largest)
            template = self._templates[topic, partition] = _Template(value, ce_id, room_bytes)
        return template

    def _trace(self, segment: Segment, index: int) -> tuple[str, bytes] | None:
        """The context of the record's own span, where it has one."""
        if segment.spans is None or segment.traces is None or not segment.spans[index]:
            return None
        parent = segment.traces[index]
        return None if parent is None else (TRACEPARENT, render(parent.trace_id, segment.spans[index]))

    def _too_large(self, value_bytes: int) -> DataFailure:
        return DataFailure(
            Code.PUBLISH_TOO_LARGE,
            f"The result has {value_bytes} bytes and headers; {self._output_topic} takes {self._limits.result_bytes} "
            "in all: raise its max.message.bytes, or ask for a smaller output.",
        )

    def _dead_letter(self, record: Record, failure: DataFailure, now_ms: int) -> Output:
        return wrap(
            record,
            failure,
            pipeline=self._pipeline,
            card=self._card,
            dead_letter_topic=self._dead_letter_topic,
            limit_bytes=self._limits.dead_letter_bytes,
            time_ms=now_ms,
        )
