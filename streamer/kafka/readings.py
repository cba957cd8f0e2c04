"""How commands read events that are not JSON of our own format: shapes of others, and formats of a schema registry."""

from __future__ import annotations

from functools import cached_property

from streamer.config.fields import Config
from streamer.config.pipeline import PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.config.shapes import shape_of, shapes_of
from streamer.core.codec import Framed, Reading
from streamer.core.framed import SchemaName
from streamer.core.record import Headers
from streamer.errors import DataFailure
from streamer.kafka.schemas import RegistrySchemas


class PatientSchemas:
    """Opens values in a command that may wait: a schema is learned when it is asked for. Raises DependencyError where
    the registry does not give it, ConfigurationError where a library is missing."""

    def __init__(self, config: SchemaRegistryConfig, pipeline: PipelineConfig) -> None:
        self._config = config
        self._pipeline = pipeline

    @cached_property
    def _schemas(self) -> RegistrySchemas:
        return RegistrySchemas(self._config, self._pipeline)

    def knows(self, name: SchemaName) -> bool:
        """It is known now."""
        self._schemas.learn_now(name)
        return True

    def open(self, value: bytes, headers: Headers | None, topic: str) -> bytes | DataFailure:
        """The value as JSON, or why it can't be opened."""
        return self._schemas.open(value, headers, topic)


def readings_of(config: Config) -> dict[str, Reading]:
    """How events are read, by pipeline, of those whose events are not JSON of our own format."""
    readings: dict[str, Reading] = dict(shapes_of(config))
    for name, pipeline in config.pipelines.items():
        if pipeline.input_format != "json":
            readings[name] = Framed(PatientSchemas(config.schema_registry, pipeline), shape_of(pipeline))
    return readings
