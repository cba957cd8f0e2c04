"""Spans of a model's own code, each case in a process of its own: a TracerProvider is set once in a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAD = """
import logging, sys
logging.basicConfig(format="LOG %(message)s", stream=sys.stdout)
from streamer.inference.spec import WorkerSpec
from streamer.inference.worker.forward_traces import ForwardTraces

class Computation:
    def __init__(self, *traces): self.traces = traces

PARENT, OTHER = bytes(15) + b"\\x07" + bytes(7) + b"\\x08", bytes(15) + b"\\x09" + bytes(7) + b"\\x01"
traces = ForwardTraces(WorkerSpec("p", "t", "m", traced=True, resource={"service.name": "s"}), own_code=True)

def forward(*computations, error=""):
    opened = traces.begin(computations)
    with trace.get_tracer("mine").start_as_current_span("inner") as span: pass
    traces.end(opened, 3, error=error)
    return span
"""


def said(script: str) -> str:
    command = [sys.executable, "-c", HEAD + script]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60, check=True
    )
    return done.stdout + done.stderr


def test_spans_come_back_below_the_forward_batch() -> None:
    """With the pipeline's resource, encoded, once; none where the micro-batch is not sampled."""
    assert said("""
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
inner = forward(Computation(PARENT), Computation(PARENT, OTHER), error="ValueError")
assert not forward(Computation()).get_span_context().trace_flags.sampled
(forwarded,), (spans,) = traces.take()
assert (forwarded.parent, forwarded.links, forwarded.records, forwarded.tokens) == (PARENT, [OTHER], 2, 3)
assert forwarded.error == "ValueError" and 0 < forwarded.start_ns <= forwarded.end_ns
(resource,) = ExportTraceServiceRequest.FromString(spans.message).resource_spans
(span,) = resource.scope_spans[0].spans
assert (span.name, span.trace_id, span.parent_span_id) == ("inner", PARENT[:16], forwarded.span_id)
assert [(one.key, one.value.string_value) for one in resource.resource.attributes] == [("service.name", "s")]
assert spans.spans == 1 and traces.take() == ([], [])
""") == ""  # fmt: skip


def test_a_provider_of_its_own_stays() -> None:
    """The class's spans go where it sends them, as children of the forward batch's span all the same."""
    assert said("""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
mine, kept = TracerProvider(), InMemorySpanExporter()
mine.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(mine)
forward(Computation(PARENT))
(forwarded,), none = traces.take()
(span,) = kept.get_finished_spans()
assert none == [] and trace.get_tracer_provider() is mine
assert span.parent.span_id == int.from_bytes(forwarded.span_id, "big") and span.context.trace_id == 7
""") == ""  # fmt: skip


def test_without_the_sdk_it_is_said_how_to_get_it() -> None:
    """Once, and the model works."""
    told = said("""
sys.modules["opentelemetry.sdk"] = None
from opentelemetry import trace
forward(Computation(PARENT))
forward(Computation(PARENT))
assert len(traces.take()[0]) == 2
""")
    assert told.count("LOG") == 1
    assert "[otel]" in told


def test_code_that_traces_nothing_costs_nothing() -> None:
    """OpenTelemetry is not even imported."""
    assert said("""
traces.end(traces.begin([Computation(PARENT)]), 1)
assert "opentelemetry" not in sys.modules and len(traces.take()[0]) == 1
""") == ""  # fmt: skip


def test_too_many_spans_are_dropped_and_said() -> None:
    """What a class can't stop making does not fill the worker's memory or its socket."""
    told = said("""
from opentelemetry import trace
opened = traces.begin([Computation(PARENT)])
tracer = trace.get_tracer("mine")
for number in range(2050):
    with tracer.start_as_current_span("inner", attributes={"fill": "x" * 1000}): pass
with trace.get_tracer("mine").start_as_current_span("inner", attributes={"fill": "x" * 1_000_000}): pass
traces.end(opened, 0)
_, spans = traces.take()
assert sum(one.spans for one in spans) == 2048 and max(len(one.message) for one in spans) <= 900_000
with trace.get_tracer("mine").start_as_current_span("inner", attributes={"fill": "x" * 1_000_000}): pass
assert traces.take()[1] == []
""")
    assert told.count("LOG") == 2


def test_a_class_that_breaks_opentelemetry_still_answers() -> None:
    """What goes wrong is said once, and no more is asked of it."""
    told = said("""
from opentelemetry import trace
trace.NonRecordingSpan = None
forward(Computation(PARENT))
forward(Computation(PARENT))
assert len(traces.take()[0]) == 2
""")
    assert told.count("LOG") == 1
    assert "TypeError" in told
