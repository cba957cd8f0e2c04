"""What a run tells about itself: spans that tracing tools read, metrics, health, and never a text or a secret."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.acceptance.harness import Given, Lab, event, wait_for
from tests.otlp_receiver import otlp_receiver

SAMPLED = b"00-%032x-%016x-01"
NOT_SAMPLED = b"00-%032x-%016x-00"
CANARY = "canary-4f1d-not-to-be-told"


def read_messages(lab: Lab, topic: str) -> list[bytes]:
    """All messages on the topic."""
    consumer = Consumer(
        {"bootstrap.servers": lab.bootstrap_servers, "group.id": f"spans-{lab.name}", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages: list[bytes] = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        messages.append(message.value() or b"")
    consumer.close()
    return messages


def read_spans(lab: Lab, topic: str) -> list[Span]:
    """All spans on the topic, decoded as the OpenTelemetry Collector's Kafka receiver does."""
    requests = [ExportTraceServiceRequest.FromString(message) for message in read_messages(lab, topic)]
    resources = [resource for request in requests for resource in request.resource_spans]
    return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]


def get(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def with_context(number: int, form: bytes) -> Given:
    record = event(number)
    return Given(record.key, record.value, [("traceparent", form % (number, number))])


def attributes(holder: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@pytest.mark.promise(10)
def test_spans_link_every_record_and_continue_sampled_traces(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record's context is linked from its micro-batch's span; a sampled one has a span of its own, whose context
    its result carries; the others' results carry the micro-batch's. An OTLP endpoint gets what the topic gets."""
    lab.topics(1)
    spans_topic = f"{lab.name}.spans"
    lab.create({spans_topic: {}}, 1)
    sampled = [with_context(number, SAMPLED) for number in range(1, 21)]
    silent = [with_context(number, NOT_SAMPLED) for number in range(21, 41)]
    dead = Given(b"k", b"not json", [("traceparent", SAMPLED % (99, 99))])
    lab.produce([*sampled, *silent, dead, event(41)])
    reader = lab.reader()
    with otlp_receiver() as receiver:
        receiver.script.append((503, {"Retry-After": "0"}, b""))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url.removesuffix("/v1/traces"))
        monkeypatch.setenv("OTEL_SERVICE_NAME", "reviews")
        run = lab.start(lab.config(), "--until-end", "--set", f"telemetry.spans={spans_topic}")
        assert run.wait() == 0, run.log
    wait_for(lambda: reader.count >= 42, "all outcomes")
    spans = read_spans(lab, spans_topic)
    refused, *posted = receiver.requests
    assert (refused[0], refused[2]) == ("/v1/traces", posted[0][2])
    assert [body for _, _, body in posted] == read_messages(lab, spans_topic)
    (resource,) = ExportTraceServiceRequest.FromString(posted[0][2]).resource_spans
    assert attributes(resource.resource)["service.name"] == "reviews"
    by_id = {(span.trace_id, span.span_id): span for span in spans}

    batches = [span for span in spans if not span.parent_span_id]
    linked = {int.from_bytes(link.trace_id, "big") for span in batches for link in span.links}
    assert linked == {*range(1, 41), 99}
    records = [span for span in spans if "streamer.outcome" in attributes(span)]
    assert {int.from_bytes(span.parent_span_id, "big") for span in records} == {*range(1, 21), 99}
    (failed,) = [span for span in records if int.from_bytes(span.trace_id, "big") == 99]
    assert attributes(failed)["error.type"] == "decode.json"

    for outcome in reader.outcomes:
        if outcome.code:
            continue
        _, trace, span_id, flags = outcome.headers["traceparent"].decode().split("-")
        span = by_id[bytes.fromhex(trace), bytes.fromhex(span_id)]
        number = outcome.body["output"]["n"]
        if number <= 20:
            assert int(trace, 16) == number
            assert int.from_bytes(span.parent_span_id, "big") == number
        else:
            assert not span.parent_span_id
            assert number == 41 or number in {int.from_bytes(link.trace_id, "big") for link in span.links}
        assert flags == "01"


@pytest.mark.promise(10)
def test_what_a_models_own_code_traces_stands_below_its_forward_batch(lab: Lab) -> None:
    """A micro-batch, the forward batches that served it, and in them the spans of the class; an exception is told by
    its class alone, since its words may quote a text."""
    lab.topics(1)
    spans_topic = f"{lab.name}.spans"
    lab.create({spans_topic: {}}, 1)
    lab.produce([*(event(number) for number in range(9)), Given(b"k", f'{{"text": "9 RAISE {CANARY}"}}'.encode(), [])])
    config = lab.config(model="python:tests.traced_models:Traced")
    run = lab.start(config, "--until-end", "--set", f"telemetry.spans={spans_topic}")
    assert run.wait() == 0, run.log
    spans = read_spans(lab, spans_topic)
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    inner = [span for span in spans if span.name == "look up"]
    assert sum(attributes(span)["texts"] for span in inner if not span.events) == 9
    for span in inner:
        forward = by_id[span.trace_id, span.parent_span_id]
        assert forward.name == "forward"
        assert forward.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert attributes(forward)["streamer.records"] == attributes(span)["texts"]
        assert bool(span.events) == ("error.type" in attributes(forward))
        assert by_id[span.trace_id, forward.parent_span_id].name == f"process {lab.input}"
    failed = next(span for span in inner if span.events)
    assert attributes(failed.events[0])["exception.type"] == "ValueError"
    assert CANARY.encode() not in b"".join(span.SerializeToString() for span in spans)


@pytest.mark.case(36)
def test_spans_on_a_topic_that_fails_cost_nothing(lab: Lab) -> None:
    """A spans topic that takes nothing (its messages are too large for it) harms no result and no exit code."""
    lab.topics(1)
    spans_topic = f"{lab.name}.spans"
    lab.create({spans_topic: {"max.message.bytes": "10"}}, 1)
    lab.produce(with_context(number, SAMPLED) for number in range(100))
    reader = lab.reader()
    run = lab.start(lab.config(), "--until-end", "--set", f"telemetry.spans={spans_topic}")
    assert run.wait() == 0, run.log
    wait_for(lambda: reader.count >= 100, "all outcomes")
    assert all(not outcome.code for outcome in reader.outcomes)


def test_metrics_and_health_over_http(lab: Lab) -> None:
    """A run serves its counts, is alive, and is ready once it has partitions."""
    lab.topics(2)
    lab.produce([*(event(number) for number in range(50)), Given(None, b"{", [])])
    reader = lab.reader()
    run = lab.start(lab.config(), "--set", "telemetry.http=127.0.0.1:0", "--set", "telemetry.log_format=json")
    served = wait_for(lambda: [line for line in run.log.splitlines() if "are served" in line], "HTTP", run=run)
    address = json.loads(served[0])["address"]
    wait_for(lambda: reader.count >= 51, "all outcomes", run=run)

    def counted() -> bool:
        text = get(address, "/metrics")
        return all(
            line in text
            for line in (
                'streamer_records_total{code="",outcome="result",pipeline="p"} 50.0',
                'streamer_records_total{code="decode.json",outcome="dead_letter",pipeline="p"} 1.0',
                'streamer_workers_ready{pipeline="p"} 1.0',
            )
        )

    wait_for(counted, "the counts", 10)
    assert json.loads(get(address, "/livez")) == {"ok": True, "pipeline": "p", "reasons": []}
    assert json.loads(get(address, "/readyz"))["ok"]
    assert run.stop() == 0, run.log


@pytest.mark.promise(7)
def test_no_text_and_no_secret_is_told(lab: Lab) -> None:
    """At debug level neither an event's text nor a password is in logs, spans, metrics, reports or error headers."""
    lab.topics(1)
    spans_topic = f"{lab.name}.spans"
    lab.create({spans_topic: {}}, 1)
    texts = [f'{{"text": "{number} {CANARY}"}}' for number in range(20)]
    broken = [f'{{"text": "{CANARY}"', f'{{"text": ["{CANARY}"]}}', f'{{"text": "1 RAISE {CANARY}"}}']
    header = [("traceparent", SAMPLED % (7, 7))]
    lab.produce(Given(b"k", value.encode(), header) for value in [*texts, *broken])
    reader = lab.reader()
    run = lab.start(
        lab.config(),
        *("--verbose", "--set", f"telemetry.spans={spans_topic}", "--set", "telemetry.http=127.0.0.1:0"),
        *("--set", f"cache.url=redis://user:{CANARY}@127.0.0.1:1/0"),
        *("--set", f"kafka.properties.sasl.password={CANARY}"),
    )
    wait_for(lambda: reader.count >= 23, "all outcomes", run=run)
    served = next(line for line in run.log.splitlines() if "are served" in line)
    metrics = get(json.loads(served)["address"], "/metrics")
    assert run.stop() == 0, run.log
    told = [run.log, metrics, json.dumps(lab.read_reports())]
    told += [span.SerializeToString().decode("utf-8", "replace") for span in read_spans(lab, spans_topic)]
    for outcome in reader.outcomes:
        told += [value.decode("utf-8", "replace") for value in outcome.headers.values()]
    assert [CANARY in text for text in told] == [False] * len(told)
    assert sum(outcome.code != "" for outcome in reader.outcomes) == 3
