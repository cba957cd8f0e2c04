"""Where spans go: to their topic, to an OTLP endpoint, or to both. Imported where there are any: it brings protobuf,
which takes a quarter second."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from streamer import __version__
from streamer.app.tracer import Tracer, gen_ai
from streamer.config.fields import KafkaConfig
from streamer.config.otel import Otel
from streamer.config.url import redacted_url
from streamer.errors import ConfigurationError
from streamer.kafka.span_topic import SpanTopic
from streamer.telemetry.catalogue import OTLP_SPANS, SPANS
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.otlp import OtlpEncoder
from streamer.telemetry.otlp_http import OtlpHttp
from streamer.telemetry.spans import OnSpans, Send, SpanExporter

if TYPE_CHECKING:
    from streamer.app.start import Start

log = logging.getLogger(__name__)


class Outlet(NamedTuple):
    """What takes spans, and what ends it: each of `closers` within the seconds that it is given, in this order."""

    exporter: SpanExporter
    closers: list[Callable[[float], None]]


def open_outlet(
    kafka: KafkaConfig, topic: str, otel: Otel, instance: str, on_spans: OnSpans, on_http: OnSpans
) -> Outlet:
    """What sends spans of the process of this name: to a topic ("" for none), by a producer of its own, to an OTLP
    endpoint, or to both. `on_spans` is told of all spans, `on_http` of those over HTTP. Raises ConfigurationError where
    a certificate can't be used."""
    outlets: list[Send] = []
    closing: list[Callable[[float], None]] = []
    if topic:
        writer = SpanTopic(kafka, topic)
        outlets.append(lambda message, _: writer.send(message))
        closing.append(writer.close)
    if otel.endpoint:
        try:
            http = OtlpHttp(otel, on_http)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY can't be used ({why}); name"
                " files in PEM, and a key without a password that belongs to its certificate"
            ) from None
        outlets.append(http.send)
        closing.append(http.close)
        log.info("spans are sent over HTTP", extra={"data": {"address": redacted_url(otel.endpoint)}})

    def send(message: bytes, spans: int) -> bool:
        taken = [outlet(message, spans) for outlet in outlets]  # each, whatever the others say
        return any(taken)

    exporter = SpanExporter(send, OtlpEncoder(instance, __version__, otel.resource), on_spans)
    return Outlet(exporter, [exporter.close, *closing])


def make_tracer(one: Start, metrics: Metrics, closers: list[Callable[[float], None]]) -> Tracer:
    """What sends the spans of a pipeline. Raises ConfigurationError."""
    outlet = open_outlet(
        one.config.kafka,
        one.config.telemetry.spans,
        one.otel,
        one.slot.name,
        lambda outcome, spans: metrics.add(SPANS, spans, outcome),
        lambda outcome, spans: metrics.add(OTLP_SPANS, spans, outcome),
    )
    closers += outlet.closers
    attributes = gen_ai(one.pipeline.task, one.pipeline.model) if one.config.telemetry.gen_ai else None
    return Tracer(outlet.exporter, metrics, one.name, one.pipeline.group, attributes)
