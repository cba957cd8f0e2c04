"""A `python:` class whose code makes spans with OpenTelemetry's API."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from streamer.model import Input
from tests.python_models import Obedient

tracer = trace.get_tracer(__name__)


class Traced(Obedient):
    """Answers as `Obedient` does, in a span of its own."""

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        with tracer.start_as_current_span("look up", attributes={"texts": len(inputs)}):
            return super().predict(inputs)
