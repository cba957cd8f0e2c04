"""What `streamer tail` says of a record: a machine form, and a line for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

import msgspec

from streamer.config.load import TelemetryConfig
from streamer.core.deadletters.envelope import unwrap
from streamer.core.foreign import read_own
from streamer.core.headers import CE_TYPE
from streamer.core.record import Record
from streamer.core.report import Report
from streamer.core.results.encoder import RESULT_TYPE
from streamer.core.timestamps import written_ms

MAX_SHOWN_CHARS = 160
_T = TypeVar("_T")


class Kind(StrEnum):
    """What a record is read as."""

    AUTO = "auto"
    RESULT = "result"
    DEAD_LETTER = "dead-letter"
    SPAN = "span"
    REPORT = "report"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of output in both forms."""

    machine: dict[str, Any]
    line: str


def kind_of(record: Record, telemetry: TelemetryConfig) -> Kind:
    """Tell by headers, then by the telemetry topics' names; what is neither is raw."""
    headers = record.headers() or []
    if unwrap(headers) is not None:
        return Kind.DEAD_LETTER
    if dict(headers).get(CE_TYPE) == RESULT_TYPE.encode():
        return Kind.RESULT
    if telemetry.spans and record.topic() == telemetry.spans:
        return Kind.SPAN
    if telemetry.reports and record.topic() == telemetry.reports:
        return Kind.REPORT
    return Kind.RAW


def show(record: Record, kind: Kind, telemetry: TelemetryConfig, *, show_text: bool = False) -> Iterator[Shown]:
    """A record as one line; a record of spans as one line a span. What can't be read as its kind is shown raw."""
    if kind is Kind.AUTO:
        kind = kind_of(record, telemetry)
    view = partial(_dead_letter, show_text=show_text) if kind is Kind.DEAD_LETTER else _VIEWS[kind]
    try:
        yield from view(record)
    except _UnreadableError:
        yield from _raw(record)


class _UnreadableError(Exception):
    """The record is not what its kind says."""


class _Model(msgspec.Struct):
    name: str
    revision: str


class _Source(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class _Result(msgspec.Struct):
    id: str
    model: _Model
    output: Any
    cached: bool
    truncated: bool
    source: _Source


def _result(record: Record) -> Iterator[Shown]:
    result = _decoded(record, _Result)
    source, model = result.source, result.model
    stamp, timestamp_ms = record.timestamp()
    then_ms = written_ms((stamp, source.timestamp_ms))
    latency_ms = None if then_ms is None else timestamp_ms - then_ms
    took = "" if latency_ms is None else f"  {latency_ms} ms"
    marks = ("  cached" if result.cached else "") + ("  truncated" if result.truncated else "")
    yield Shown(
        {**_place(record, Kind.RESULT), "latency_ms": latency_ms, "value": _decoded(record, dict[str, Any])},
        f"{_text(result.id)}  {_short(result.output)}  {_text(model.name)}@{_text(model.revision)[:12]}{took}{marks}"
        f"  ← {_text(source.topic)}/{source.partition}/{source.offset}",
    )


def _dead_letter(record: Record, *, show_text: bool = False) -> Iterator[Shown]:
    info = unwrap(record.headers() or [])
    if info is None:
        raise _UnreadableError
    value = _value_text(record) if show_text else None
    machine = {**_place(record, Kind.DEAD_LETTER), "error": msgspec.to_builtins(info)}
    tail = ""
    if show_text:
        machine["value"] = value
        tail = f"  {_short(value)}"
    yield Shown(
        machine,
        f"{info.code}  {_text(info.message)}  ← {_text(info.topic)}/{info.partition}/{info.offset}"
        f"  {_text(info.pipeline)}  {_text(info.time)}{tail}",
    )


def _spans(record: Record) -> Iterator[Shown]:
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(record.value() or b"")
    except DecodeError:
        raise _UnreadableError from None
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                duration_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
                ids = {
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_span_id": span.parent_span_id.hex(),
                }
                attributes = {each.key: _attribute(MessageToDict(each.value)) for each in span.attributes}
                machine: dict[str, Any] = {
                    **_place(record, Kind.SPAN),
                    **ids,
                    "name": span.name,
                    "start": _time(span.start_time_unix_nano / 1e9),
                    "duration_ms": round(duration_ms, 3),
                    "links": len(span.links),
                    "error": span.status.code == 2,
                    "attributes": attributes,
                }
                links = f"  {len(span.links)} links" if span.links else ""
                failed = "  error" if machine["error"] else ""
                yield Shown(
                    machine,
                    f"{machine['start']}  {_text(span.name)}  {duration_ms:.1f} ms{failed}{links}"
                    f"  trace {ids['trace_id']}  {_short(attributes)}",
                )


def _report(record: Record) -> Iterator[Shown]:
    report = _decoded(record, Report)
    ranges = ", ".join(f"{_text(topic)}/{partition} {first}-{last}" for topic, partition, first, last in report.ranges)
    machine = {**_place(record, Kind.REPORT), "value": _decoded(record, dict[str, Any])}
    if report.event is not None:
        what = f"member {_text(report.member)} {report.event.what}  {_text(report.event.reason)}".rstrip()
        yield Shown(machine, f"{_time(report.time_ms / 1000)}  {_text(report.pipeline)}  {what}")
        return
    yield Shown(
        machine,
        f"{_time(report.time_ms / 1000)}  {_text(report.pipeline)}  {report.results} results"
        f"  {sum(report.dead_letters.values())} dead letters  {report.cached} cached  {report.tokens} tokens"
        f"  at most {report.latency_ms.max} ms  ← {ranges}",
    )


def _raw(record: Record) -> Iterator[Shown]:
    value = _value_text(record)
    key = record.key()
    name = "" if key is None else f"  key {_text(key.decode('utf-8', 'replace'))}"
    yield Shown(
        {**_place(record, Kind.RAW), "value": value},
        f"{record.topic()}/{record.partition()}/{record.offset()}{name}  {_short(value)}",
    )


_VIEWS: dict[Kind, Callable[[Record], Iterator[Shown]]] = {
    Kind.RESULT: _result,
    Kind.SPAN: _spans,
    Kind.REPORT: _report,
    Kind.RAW: _raw,
}


def _place(record: Record, kind: Kind) -> dict[str, Any]:
    key = record.key()
    stamp, timestamp_ms = record.timestamp()
    return {
        "kind": kind.value,
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp_ms": timestamp_ms if stamp else None,
        "key": None if key is None else key.decode("utf-8", "replace"),
    }


def _decoded(record: Record, type_: type[_T]) -> _T:
    decode: Callable[[bytes], _T] = partial(msgspec.json.decode, type=type_)
    found = read_own(decode, record.value())
    if found is None:
        raise _UnreadableError
    return found


def _value_text(record: Record) -> str | None:
    value = record.value()
    return None if value is None else value.decode("utf-8", "replace")


def _attribute(value: dict[str, Any]) -> Any:
    """OTLP's AnyValue without its type; JSON writes its 64-bit integers as texts."""
    for kind, inner in value.items():
        return int(inner) if kind == "intValue" else inner
    return None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: Any) -> str:
    """For a terminal: no control characters, which could write to it."""
    return "".join(char if char.isprintable() else " " for char in str("" if value is None else value))


def _short(value: Any) -> str:
    text = _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
