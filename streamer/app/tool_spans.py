"""The spans of a tool: of the health app, the console, and whoever moves dead letters."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from streamer.config.load import Config
from streamer.config.otel import read
from streamer.errors import ConfigurationError
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer

CLOSE_S: Final = 3.0

log = logging.getLogger(__name__)


@contextmanager
def tool_spans(
    config: Config, tool: str, *, to_topic: bool = True, environ: Mapping[str, str] = os.environ
) -> Iterator[ToolTracer]:
    """What sends the spans of this tool where those of the pipelines go, until the block ends; it sends none where
    spans are off. Without `to_topic` it leaves out the topic, which a producer might create. Raises ConfigurationError
    for a variable that `streamer run` refuses, too."""
    otel, problems, warnings = read(environ, config.telemetry)
    for path, text in problems:
        raise ConfigurationError(f"environment variable {'.'.join(path)}: {text}")
    for variable, text in warnings:
        log.warning("environment variable %s: %s", variable, text)
    topic = config.telemetry.spans if to_topic else ""
    if otel.off or not (otel.endpoint or topic):
        yield NO_SPANS
        return
    from streamer.app.outlets import open_outlet

    counts = Counter[str]()

    def count(outcome: str, spans: int) -> None:
        counts[outcome] += spans

    outlet = open_outlet(config.kafka, topic, otel, f"{tool}@{socket.gethostname()}", count, lambda *_: None)
    try:
        yield ToolTracer(outlet.exporter.offer, otel.sampler)
    finally:
        deadline = time.monotonic() + CLOSE_S
        for close in outlet.closers:
            close(max(deadline - time.monotonic(), 0.1))
        if counts["dropped"]:
            log.warning("spans were dropped", extra={"data": {"count": counts["dropped"]}})
