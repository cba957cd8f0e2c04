"""Spans of the tools: which are sent, how they belong together, and what they tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamer.app.tool_spans import tool_spans
from streamer.cli.dlq.options import tracing
from streamer.config.load import load
from streamer.console.traced import Traced, span_of
from streamer.core.deadletters.replay import Mark
from streamer.core.health.words import StateWord, WindowWord
from streamer.core.record import TraceParent
from streamer.core.trace_sampler import TraceSampler
from streamer.errors import ConfigurationError
from streamer.health.traces import tell
from streamer.ops.dlq.move import Mover
from streamer.telemetry.otlp import OtlpEncoder
from streamer.telemetry.spans import Link, Span, ToolSpan
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer
from tests.unit.deadletters_kit import Killed, ours
from tests.unit.test_deadletters_move import Bench, log_with, order

SAMPLED, NOT_SAMPLED = "00-%032x-%016x-01", "00-%032x-%016x-00"
CANARY = "canary-7b1e-not-to-be-told"


class Sent(list[ToolSpan]):
    """The spans that were sent."""

    def offer(self, spans: Sequence[Span]) -> None:
        for span in spans:
            assert isinstance(span, ToolSpan)
            self.append(span)

    def named(self, name: str) -> list[ToolSpan]:
        return [span for span in self if span.name == name]

    def tracer(self, **rule: Any) -> ToolTracer:
        return ToolTracer(self.offer, TraceSampler(**rule))


@pytest.fixture
def sent() -> Sent:
    return Sent()


def message(span: ToolSpan) -> SpanMessage:
    ((encoded, count),) = OtlpEncoder("dlq@host", "1").encode([span])
    assert count == 1
    found: SpanMessage = ExportTraceServiceRequest.FromString(encoded).resource_spans[0].scope_spans[0].spans[0]
    return found


def test_a_span_field_by_field() -> None:
    """Ids, times, kind, attributes, links and status; a parent of another program is marked as remote."""
    span = ToolSpan(
        name="send in",
        trace_id=5,
        span_id=6,
        start_ns=7,
        end_ns=9,
        parent_span_id=4,
        remote=True,
        kind="producer",
        attributes={"streamer.job": "j", "messaging.batch.message_count": 2},
        links=[Link(1, 2, "in.dlq", 0, 3)],
        error="DependencyError",
    )
    found = message(span)
    assert (int.from_bytes(found.trace_id, "big"), int.from_bytes(found.span_id, "big")) == (5, 6)
    assert (int.from_bytes(found.parent_span_id, "big"), found.flags) == (4, 0x301)
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (7, 9)
    assert (found.name, found.kind) == ("send in", SpanMessage.SPAN_KIND_PRODUCER)
    attributes = {one.key: one.value.string_value or one.value.int_value for one in found.attributes}
    told = {"streamer.job": "j", "messaging.batch.message_count": 2, "error.type": "DependencyError"}
    assert attributes == told
    assert [int.from_bytes(link.trace_id, "big") for link in found.links] == [1]
    assert (found.status.code, found.status.message) == (Status.STATUS_CODE_ERROR, "DependencyError")
    root = message(ToolSpan(name="evaluate", trace_id=5, span_id=6, start_ns=7, end_ns=9))
    assert (root.parent_span_id, root.flags, root.kind) == (b"", 0x101, SpanMessage.SPAN_KIND_INTERNAL)
    assert root.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    ("rule", "remote", "flag", "is_sent"),
    [
        ({}, True, True, True),
        ({}, True, False, False),
        ({"parent_based": False, "ratio": 0.0}, True, True, False),
        ({"parent_based": False, "ratio": 1.0}, True, False, True),
        ({"parent_based": False, "ratio": 0.0}, False, True, True),
        ({"parent_based": False, "ratio": 1.0}, False, False, False),
    ],
)
def test_the_sampler_decides_where_a_trace_begins(
    sent: Sent, rule: Any, remote: bool, flag: bool, is_sent: bool
) -> None:
    """A parent of ours has decided for its children; of one of others the sampler says whether it has."""
    with sent.tracer(**rule).begin("x", {}, parent=TraceParent(1, 2, flag), remote=remote) as span:
        assert span.is_sent == is_sent
    assert [(one.trace_id, one.parent_span_id) for one in sent] == [(1, 2)] * is_sent


def test_what_is_raised_is_told_by_its_class_alone(sent: Sent) -> None:
    """Its words may quote a text."""
    with pytest.raises(ValueError, match="canary"), sent.tracer().begin("x", {}):
        raise ValueError(CANARY)
    assert [one.error for one in sent] == ["ValueError"]
    assert CANARY not in repr(sent)


def test_a_replay_is_a_trace_that_links_those_of_its_records(sent: Sent) -> None:
    """A span of the run and one of each transaction, linked to the contexts with which the records failed; what is sent
    keeps its own context, so that its answer is part of the trace that its producer began."""
    contexts = {number: SAMPLED % (100 + number, number + 1) for number in range(3)}
    letters = [
        ours(n, headers=[("traceparent", contexts[n].encode())], value=b'{"text": "%b"}' % CANARY.encode())
        for n in range(3)
    ]
    log = log_with(*letters, ours(3, headers=[("traceparent", b"none")]), ours(4, pipeline="gone"))
    bench = Bench(log, order())
    bench.mover = traced(bench, sent, TraceParent(1, 2, True))
    assert bench.execute() == 4
    (run,) = sent.named("replay dead letters")
    assert (run.trace_id, run.parent_span_id, run.error) == (1, 2, "")
    assert run.attributes == {"streamer.job": "j", "streamer.refused": 1, "streamer.records": 4}
    first, second = sent.named("send in")
    assert {(one.trace_id, one.parent_span_id, one.kind) for one in (first, second)} == {(1, run.span_id, "producer")}
    assert first.attributes == {
        "streamer.job": "j",
        "streamer.dead_letter_topic": "in.dlq",
        "messaging.system": "kafka",
        "messaging.batch.message_count": 2,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "in",
    }
    assert first.links == [Link(100, 1, "in.dlq", 0, 0), Link(101, 2, "in.dlq", 0, 1)]
    assert second.links == [Link(102, 3, "in.dlq", 0, 2)]
    kept = [dict(record.headers() or []).get("traceparent") for record in log.topics["in"]]
    assert kept == [*(contexts[n].encode() for n in range(3)), b"none"]
    assert CANARY not in repr(sent)


def traced(bench: Bench, sent: Sent, parent: TraceParent | None = None, decide: Any = None) -> Mover:
    """The bench's mover, with spans."""
    old = bench.mover
    mover = Mover(
        old._log,
        old._order,
        decide or bench.decide,
        bench.targets,
        old._open_copier,
        tracer=sent.tracer(),
        parent=parent,
    )
    mover._chunk = 2
    return mover


def test_a_replay_that_fails_says_so(sent: Sent) -> None:
    """The run and the transaction that was not written, by the class of the error; how many had moved by then."""
    bench = Bench(log_with(*(ours(n) for n in range(4))), order(), dies_at=2)
    bench.mover = traced(bench, sent)
    with pytest.raises(Killed):
        bench.execute()
    (run,) = sent.named("replay dead letters")
    assert (run.error, run.attributes["streamer.records"]) == ("Killed", 2)
    assert [one.error for one in sent.named("send in")] == ["", "Killed"]


def test_to_discard_sends_nothing(sent: Sent) -> None:
    """No destination, and no span of a producer."""
    what = order(action="discard")
    bench = Bench(log_with(ours(0)), what)
    bench.mover = traced(bench, sent, decide=Mark(what.signature, "discarded", "old"))
    assert bench.execute() == 1
    (closing,) = sent.named("close")
    assert closing.kind == "internal"
    assert "messaging.destination.name" not in closing.attributes
    assert sent.named("discard dead letters")


def route(path: str, method: str = "GET") -> Route:
    async def answer(request: Request) -> Response:
        span = span_of(request)
        if span is not None:
            span.attributes["streamer.job"] = "j"
        return Response(status_code=500 if request.query_params.get("broken") else 200)

    return Route(path, answer, methods=[method])


def ask(sent: Sent, path: str, *, method: str = "GET", query: str = "", traceparent: str = "") -> None:
    """One request to an application with the console's middleware."""
    routes = [*map(route, ("/api/now", "/api/live", "/api/letters/{topic}")), route("/api/jobs/{job}/cancel", "POST")]
    app = Traced(Starlette(routes=routes), sent.tracer(), routes)
    headers = [(b"traceparent", traceparent.encode())] if traceparent else []
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(_: Any) -> None:
        pass

    asyncio.run(app({**scope, "root_path": ""}, receive, send))


def test_a_request_that_acts_has_a_span_and_one_that_reads_where_it_is_traced(sent: Sent) -> None:
    """A page that is open asks each second, which would bury what was done."""
    ask(sent, "/api/now")
    ask(sent, "/api/now", traceparent=NOT_SAMPLED % (1, 2))
    ask(sent, "/api/live", traceparent=SAMPLED % (1, 2))
    ask(sent, "/static/main.js", traceparent=SAMPLED % (1, 2))
    assert not sent
    ask(sent, "/api/now", traceparent=SAMPLED % (1, 2))
    (read,) = sent
    assert (read.name, read.trace_id, read.parent_span_id, read.remote) == ("GET /api/now", 1, 2, True)
    ask(sent, "/api/jobs/one/cancel", method="POST")
    acted = sent[-1]
    assert (acted.name, acted.kind, acted.parent_span_id) == ("POST /api/jobs/{job}/cancel", "server", 0)
    assert acted.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/api/jobs/{job}/cancel",
        "streamer.job": "j",
    }
    ask(sent, "/api/jobs/one/cancel", method="POST", traceparent=NOT_SAMPLED % (1, 2))
    assert sent[-1] is acted


def test_a_request_is_told_by_its_route(sent: Sent) -> None:
    """Path and query hold keys and ids. What fails here is an error, what a client does wrong is none."""
    trace = SAMPLED % (1, 2)
    ask(sent, f"/api/letters/{CANARY}", query=f"text={CANARY}", traceparent=trace)
    ask(sent, "/api/now", query="broken=1", traceparent=trace)
    ask(sent, f"/{CANARY}", method="POST")
    ask(sent, f"/api/letters/{CANARY}", method=CANARY)
    assert [one.name for one in sent] == [
        "GET /api/letters/{topic}",
        "GET /api/now",
        "POST",
        "_OTHER /api/letters/{topic}",
    ]
    assert [one.error for one in sent] == ["", "500", "", ""]
    assert CANARY not in repr(sent)


def state(rule: str, now: str, since_ms: int) -> StateWord:
    return StateWord(
        version="1",
        pipeline="p",
        rule=rule,
        metric="drift",
        state=now,  # type: ignore[arg-type]
        since_ms=since_ms,
        time_ms=1_000,
        threshold=1,
        severity="page",
        what=CANARY,
        records=9,
    )


def test_the_health_app_tells_windows_and_changes(sent: Sent) -> None:
    """One trace a round, with a span for each window and each rule whose state is another; none for a rule that stands
    as it stood, and none for a round without news."""
    counts = SimpleNamespace(model="m", results=5, dead_letters={"decode.json": 2, "infer.nan": 1})
    window = WindowWord(pipeline="p", revision="r", start_ms=60_000, length_ms=60_000, window=counts)
    tell(sent.tracer(), 3, [window], [state("drift", "firing", 1_000), state("silent", "ok", 500)])
    one, two, whole = sent
    assert (whole.name, whole.start_ns, whole.parent_span_id) == ("evaluate", 3, 0)
    assert {(each.trace_id, each.parent_span_id) for each in (one, two)} == {(whole.trace_id, whole.span_id)}
    assert one.name == "evaluate window"
    assert one.attributes == {
        "streamer.pipeline": "p",
        "streamer.model": "m",
        "streamer.window.start_ms": 60_000,
        "streamer.window.length_ms": 60_000,
        "streamer.results": 5,
        "streamer.dead_letters": 3,
    }
    assert two.name == "rule firing"
    assert two.attributes["streamer.rule"] == "drift"
    tell(sent.tracer(), 3, [], [state("silent", "ok", 500)])
    assert len(sent) == 3
    assert CANARY not in repr(sent)


OFF = [({"OTEL_SDK_DISABLED": "true"}, True), ({"OTEL_TRACES_EXPORTER": "none"}, True), ({}, False)]


@pytest.mark.parametrize(("environ", "to_topic"), OFF)
def test_where_spans_are_off_nothing_is_opened(environ: dict[str, str], to_topic: bool) -> None:
    """No producer, no thread, and no import of protobuf."""
    with tool_spans(load(None, {}, []), "dlq", to_topic=to_topic, environ=environ) as tracer:
        assert tracer is NO_SPANS
        with tracer.begin("x", {}) as span:
            assert not span.is_sent


def test_a_variable_that_run_refuses_is_refused(tmp_path: Path) -> None:
    """By its name: spans would go to the wrong place."""
    for name, value in (("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x"), ("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path))):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", name: value}
        with pytest.raises(ConfigurationError, match=name), tool_spans(load(None, {}, []), "dlq", environ=environ):
            pass


def test_a_topic_of_spans_that_may_not_be_looked_at_ends_nobodys_replay(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: Sequence[str]) -> None:
        raise ConfigurationError("topic otlp_spans: no right to it")

    log: Any = SimpleNamespace(describe=refuse)
    with tracing(load(None, {}, []), log) as tracer:
        assert tracer is NO_SPANS
    assert "no spans go to their topic" in caplog.text
