"""How commands read what is not JSON of our own format: events in shapes of others, events and results in formats of a
schema registry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Final

import msgspec

from streamer.config.fields import Config
from streamer.config.pipeline import PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.config.shapes import shape_of, shapes_of
from streamer.core.events.codec import Framed, Reading
from streamer.core.events.framed import SchemaName, schema_named
from streamer.core.events.record_headers import headers_of
from streamer.core.record import Headers, Record
from streamer.core.results.proto import from_proto
from streamer.core.results.schema import from_avro
from streamer.errors import DataFailure
from streamer.kafka.schemas import RegistrySchemas

_JSON_OF: Final[dict[str, Callable[[bytes], bytes]]] = {
    "avro": from_avro,
    "protobuf": from_proto,
    "json-schema": lambda opened: opened,
}


class PatientSchemas:
    """Opens values in a command that may wait: a schema is learned when it is asked for. Raises DependencyError where
    the registry does not give it, ConfigurationError where a library is missing."""

    def __init__(self, config: SchemaRegistryConfig, pipeline: PipelineConfig) -> None:
        self._config = config
        self._pipeline = pipeline
        self._lock = threading.Lock()  # several threads look results up, and the client is closed after each schema

    @cached_property
    def _schemas(self) -> RegistrySchemas:
        return RegistrySchemas(self._config, self._pipeline)

    def knows(self, name: SchemaName) -> bool:
        """It is known now."""
        with self._lock:
            if not self._schemas.knows(name):
                try:
                    self._schemas.learn_now(name)
                finally:
                    self._schemas.disconnect()
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


class Results:
    """Reads the results that pipelines of a configuration write in a format of a schema registry."""

    def __init__(self, config: Config) -> None:
        self._formats = {
            pipeline.output: pipeline.output_format
            for pipeline in config.pipelines.values()
            if pipeline.output_format != "json"
        }
        self._schemas = {
            pipeline.output: PatientSchemas(
                config.schema_registry,
                msgspec.structs.replace(
                    pipeline, input_format=pipeline.output_format, input_subject=pipeline.output_subject
                ),
            )
            for pipeline in config.pipelines.values()
            if pipeline.output_format != "json"
        }

    def plain(self, record: Record) -> bytes:
        """A record's value as JSON; as it is where it is no such result. Raises DependencyError where the registry does
        not give its schema."""
        topic, value = record.topic(), record.value() or b""
        schemas = self._schemas.get(topic)
        if schemas is None:
            return value
        (headers,) = headers_of([record])
        name = schema_named(value, headers)
        if name is None:
            return value
        schemas.knows((topic, name))
        opened = schemas.open(value, headers, topic)
        if isinstance(opened, DataFailure):
            return value
        try:
            return _JSON_OF[self._formats[topic]](opened)
        except ValueError:
            return value
