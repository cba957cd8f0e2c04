"""Where the spans of a pipeline go: to their topic, to an OTLP endpoint, or to both. Imported where there are any: it
brings protobuf, which takes a quarter second."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamer import __version__
from streamer.app.tracer import Tracer, gen_ai
from streamer.config.url import redacted_url
from streamer.errors import ConfigurationError
from streamer.kafka.span_topic import SpanTopic
from streamer.telemetry.catalogue import OTLP_SPANS, SPANS
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.otlp import OtlpEncoder
from streamer.telemetry.otlp_http import OtlpHttp
from streamer.telemetry.spans import Send, SpanExporter

if TYPE_CHECKING:
    from streamer.app.start import Start

log = logging.getLogger(__name__)


def make_tracer(one: Start, metrics: Metrics, closers: list[Callable[[float], None]]) -> Tracer:
    """What sends spans: to the topic, by a producer of its own, to an OTLP endpoint, or to both. Raises
    ConfigurationError where a certificate for that can't be used."""
    outlets: list[Send] = []
    closing: list[Callable[[float], None]] = []
    if one.config.telemetry.spans:
        topic = SpanTopic(one.config.kafka, one.config.telemetry.spans)
        outlets.append(lambda message, _: topic.send(message))
        closing.append(topic.close)
    if one.otel.endpoint:
        try:
            http = OtlpHttp(one.otel, lambda outcome, spans: metrics.add(OTLP_SPANS, spans, outcome))
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY can't be used ({why}); name"
                " files in PEM, and a key without a password that belongs to its certificate"
            ) from None
        outlets.append(http.send)
        closing.append(http.close)
        log.info("spans are sent over HTTP", extra={"data": {"address": redacted_url(one.otel.endpoint)}})
    encoder = OtlpEncoder(one.slot.name, __version__, one.otel.resource)

    def send(message: bytes, spans: int) -> bool:
        taken = [outlet(message, spans) for outlet in outlets]  # each, whatever the others say
        return any(taken)

    exporter = SpanExporter(send, encoder, lambda outcome, spans: metrics.add(SPANS, spans, outcome))
    closers += [exporter.close, *closing]
    attributes = gen_ai(one.pipeline.task, one.pipeline.model) if one.config.telemetry.gen_ai else None
    return Tracer(exporter, metrics, one.name, one.pipeline.group, attributes)
