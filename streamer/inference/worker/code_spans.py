"""Spans that the code of a `python:` class makes with OpenTelemetry's API, on their way to the driver.

A TracerProvider that the class has set itself stays; its spans go where it sends them, and are children of the forward
batch's span all the same. Where it has set none, and opentelemetry-sdk is installed, they come here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from opentelemetry import context, trace

from streamer.core.pipeline.pass_spans import CodeSpans
from streamer.extras import install_command

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

MAX_SPANS: Final = 2_048
MAX_MESSAGE_BYTES: Final = 900_000
MAX_BYTES: Final = 4_000_000
_QUOTING: Final = ("exception.message", "exception.stacktrace")

log = logging.getLogger(__name__)


class CodeTracing:
    """Where the spans of the model's code begin, and what of them has ended."""

    def __init__(self, collected: Collected | None) -> None:
        self._collected = collected

    def attach(self, trace_id: bytes, span_id: bytes) -> object:
        """From now on the spans of this thread are children of this one; without ids, they are not recorded."""
        ids = int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if ids[0] else trace.TraceFlags.DEFAULT)
        if not ids[0]:
            ids = 1, 1  # a parent that is not sampled
        parent = trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=False, trace_flags=flags))
        return context.attach(trace.set_span_in_context(parent))

    def detach(self, token: object) -> None:
        """The end of that. What the code has attached and left is gone with it."""
        with suppress(ValueError):
            context.detach(token)  # type: ignore[arg-type]

    def take(self) -> list[CodeSpans]:
        """Encoded, those that ended since the last call."""
        return self._collected.take() if self._collected is not None else []


def tracing(resource: Mapping[str, str]) -> CodeTracing:
    """For the model of this process, which is loaded; `resource` are the attributes of all spans of this pipeline."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return CodeTracing(None)  # the class has set one
    try:
        collected = Collected()
        _provide(collected, resource)
    except ImportError:
        log.warning(
            "the model's code makes spans, which are not recorded, since the SDK of OpenTelemetry is not installed;"
            " run: %s",
            install_command("otel"),
        )
        return CodeTracing(None)
    return CodeTracing(collected)


def _provide(collected: Collected, resource: Mapping[str, str]) -> None:
    import opentelemetry.exporter.otlp.proto.common.trace_encoder  # noqa: F401 - what `take` needs
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Collecting(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            collected.add(span)

    provider = TracerProvider(resource=Resource(dict(resource)), shutdown_on_exit=False)
    provider.add_span_processor(Collecting())
    trace.set_tracer_provider(provider)


class Collected:
    """Spans that ended, in any thread, until the next answer takes them along."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[ReadableSpan] = []
        self._dropped = 0

    def add(self, span: ReadableSpan) -> None:
        """Keep a sampled one, or count it where there are too many."""
        if not span.context or not span.context.trace_flags.sampled:
            return
        with self._lock:
            if len(self._spans) < MAX_SPANS:
                self._spans.append(span)
            else:
                self._dropped += 1

    def take(self) -> list[CodeSpans]:
        """All that is there, as messages of less than 900 kB."""
        if not self._spans:
            return []
        with self._lock:
            spans, self._spans = self._spans, []
            dropped, self._dropped = self._dropped, 0
        messages = list(_encoded(spans))
        while sum(len(one.message) for one in messages) > MAX_BYTES:
            messages.pop()
        dropped += len(spans) - sum(one.spans for one in messages)
        if dropped:
            log.warning("spans of the model's code were too many or too large and were dropped: %d", dropped)
        return messages


def _encoded(spans: list[ReadableSpan]) -> list[CodeSpans]:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    request = encode_spans(spans)
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                # The words of an exception may quote an event's text: its class and the status are told, no more.
                span.status.message = ""
                for event in span.events:
                    kept = [one for one in event.attributes if one.key not in _QUOTING]
                    del event.attributes[:]
                    event.attributes.extend(kept)
    message = request.SerializeToString()
    if len(message) <= MAX_MESSAGE_BYTES:
        return [CodeSpans(message, len(spans))]
    half = len(spans) // 2
    return [*_encoded(spans[:half]), *_encoded(spans[half:])] if half else []
