"""What `streamer tail` says of records."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streamer.cli.records import Kind, Shown, kind_of, show
from streamer.config.load import TelemetryConfig
from streamer.core.record import Headers
from tests.records import FakeRecord

TELEMETRY = TelemetryConfig()
RESULT = {
    "id": "r-1",
    "pipeline": "p",
    "task": "t",
    "model": {"name": "m", "revision": "0123456789abcdef"},
    "output": {"label": "good", "score": 0.5},
    "cached": True,
    "truncated": False,
    "source": {"topic": "in", "partition": 1, "offset": 7, "timestamp_ms": 1_700_000_000_000},
}
RESULT_HEADERS: Headers = [("ce_type", b"streamer.result.v1")]
DEAD_LETTER_HEADERS: Headers = [
    ("__connect.errors.topic", b"in"),
    ("__connect.errors.partition", b"1"),
    ("__connect.errors.offset", b"7"),
    ("__connect.errors.exception.message", b"no JSON"),
    ("streamer.error.code", b"decode.json"),
]


def shown(record: FakeRecord, kind: Kind = Kind.AUTO, *, show_text: bool = False) -> Shown:
    """The one line of a record."""
    (only,) = show(record, kind, TELEMETRY, show_text=show_text)
    return only


def test_a_result_says_id_output_model_latency_and_source() -> None:
    """One line holds what a subscriber asks first."""
    value = json.dumps(RESULT).encode()
    result = shown(FakeRecord(value, headers=RESULT_HEADERS, topic="out", timestamp_ms=1_700_000_000_012))
    assert result.line == 'r-1  {"label": "good", "score": 0.5}  m@0123456789ab  12 ms  cached  ← in/1/7'
    assert (result.machine["kind"], result.machine["latency_ms"]) == ("result", 12)
    assert result.machine["value"] == RESULT


def test_a_dead_letter_says_why_and_whence_but_not_the_text() -> None:
    """The text is shown only on request."""
    record = FakeRecord(b"secret text", headers=DEAD_LETTER_HEADERS, topic="out.dlq")
    letter = shown(record)
    assert letter.line.startswith("decode.json  no JSON  ← in/1/7")
    assert letter.machine["error"]["code"] == "decode.json"
    assert "secret text" not in letter.line + json.dumps(letter.machine)
    asked = shown(record, show_text=True)
    assert "secret text" in asked.line
    assert asked.machine["value"] == "secret text"


def test_spans_are_decoded_one_a_line() -> None:
    """A record of OTLP spans gives a line for each span."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in (1, 2):
        span = spans.add(name=f"step {number}", trace_id=b"\1" * 16, span_id=b"\2" * 8)
        span.start_time_unix_nano, span.end_time_unix_nano = 1_000_000_000, 1_002_500_000
        span.links.add(trace_id=b"\3" * 16)
        span.attributes.add(key="n").value.int_value = 5
    record = FakeRecord(request.SerializeToString(), topic="otlp_spans")
    first, second = show(record, Kind.AUTO, TELEMETRY)
    assert first.line.startswith("1970-01-01T00:00:01.000Z  step 1  2.5 ms  1 links  trace 0101")
    assert (second.machine["name"], second.machine["attributes"]) == ("step 2", {"n": 5})


def test_a_report_is_summed_up() -> None:
    """Counts, the slowest event and the ranges."""
    histogram = {"counts": [[10, 1]], "sum": 9, "max": 9}
    report: dict[str, Any] = {
        "version": "streamer.report.v1",
        "pipeline": "p",
        "task": "t",
        "model": RESULT["model"],
        "time_ms": 1000,
        "ranges": [["in", 0, 5, 9]],
        "results": 4,
        "dead_letters": {"decode.json": 1},
        "skipped": {},
        "cached": 2,
        "truncated": 0,
        "tokens": 30,
        "latency_ms": histogram,
        "text_chars": histogram,
    }
    line = shown(FakeRecord(json.dumps(report).encode(), topic="streamer.reports")).line
    assert line == (
        "1970-01-01T00:00:01.000Z  p  4 results  1 dead letters  2 cached  30 tokens  at most 9 ms  ← in/0 5-9"
    )


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (FakeRecord(b"{}", headers=RESULT_HEADERS), Kind.RESULT),
        (FakeRecord(b"{}", headers=DEAD_LETTER_HEADERS), Kind.DEAD_LETTER),
        (FakeRecord(b"", topic="otlp_spans"), Kind.SPAN),
        (FakeRecord(b"{}", topic="streamer.reports"), Kind.REPORT),
        (FakeRecord(b"{}"), Kind.RAW),
    ],
)
def test_the_kind_is_told_by_headers_and_topics(record: FakeRecord, kind: Kind) -> None:
    """Never by looking into the value."""
    assert kind_of(record, TELEMETRY) is kind


@pytest.mark.parametrize("kind", [each for each in Kind if each is not Kind.AUTO])
@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"id": 5, "model": "x"}'])
def test_what_is_not_of_its_kind_is_shown_raw(kind: Kind, value: bytes | None) -> None:
    """No record stops the reading of a topic."""
    lines = list(show(FakeRecord(value), kind, TELEMETRY))
    assert all(json.dumps(each.machine) for each in lines)
    assert [each.machine["kind"] for each in lines] in ([], ["raw"])


def test_control_characters_never_reach_the_terminal() -> None:
    """A record can't move the cursor or change a title."""
    record = FakeRecord(b"\x1b]0;owned\x07\nnext line", key=b"\x1b[2J")
    assert all(char.isprintable() for char in shown(record).line)


def test_long_outputs_are_shortened_for_people_only() -> None:
    """The machine form is whole."""
    record = FakeRecord(b"x" * 10_000)
    assert len(shown(record).line) < 300
    assert shown(record).machine["value"] == "x" * 10_000
