"""Results in a format of a schema registry: their schema is registered once, before the first of them is written."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final
from uuid import UUID

from streamer.config.pipeline import PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.core.events.framed import SCHEMA_HEADER
from streamer.core.results.proto import to_proto
from streamer.core.results.schema import avro_schema_of, check_of, json_schema_of, to_avro
from streamer.errors import ConfigurationError, DependencyError
from streamer.kafka.registry_client import TYPES, connect_registry, outage_of, require

Write = Callable[[bytes], bytes]
"""What makes data of a result's JSON, in a format."""


@dataclass(frozen=True, slots=True)
class ResultSeal:
    """Implements `streamer.core.events.framed.Seal`. `frame` goes in front of the data; `check` raises ValueError for a
    result that its task's schema does not describe."""

    format: str
    frame: bytes
    header: tuple[str, bytes] | None
    check: Callable[[bytes], object]
    write: Write

    def __call__(self, value: bytes) -> bytes:
        """The value that is written."""
        self.check(value)
        try:
            return self.frame + self.write(value)
        except Exception:  # whatever it meets in what a model says: a number that is no long, half a surrogate pair
            raise ValueError(f"a value has no form in {self.format}") from None


def register(config: SchemaRegistryConfig, pipeline: PipelineConfig, client: Any = None) -> ResultSeal:
    """What writes the results of this pipeline, once their schema is registered.

    Raises ConfigurationError where the schema is not there and may not be registered, or the subject has others that
    it does not go with; DependencyError where the registry does not answer.
    """
    require(config, pipeline.output_format)
    from confluent_kafka.schema_registry import Schema
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    # What a class of the operator's own answers is its own, whatever the task is called.
    task = "" if pipeline.model.startswith(("builtin:", "python:")) else pipeline.task
    schema, place, write = _FORMATS[pipeline.output_format](task, pipeline.options.get("encoding", "float"))
    text = Schema(schema, TYPES[pipeline.output_format])
    subject = pipeline.output_subject or f"{pipeline.output}-value"
    with closing(client or connect_registry(config)) as asked:
        try:
            made = (asked.register_schema_full_response if pipeline.auto_register else asked.lookup_schema)(
                subject, text
            )
        except SchemaRegistryError as error:
            if refusal := _refusal(error, subject, pipeline, config.url):
                raise ConfigurationError(refusal) from None
            raise _away(error, config, subject) from None
        except Exception as error:
            raise _away(error, config, subject) from None
    check = check_of(task)
    if pipeline.output_schema_id == "value":
        frame = b"\0" + made.schema_id.to_bytes(4) + place
        return ResultSeal(pipeline.output_format, frame, None, check, write)
    if not made.guid:
        raise ConfigurationError(
            f"the schema registry at {config.url} has no GUIDs, by which a header names a schema; write"
            ' output_schema_id = "value"'
        )
    header = (SCHEMA_HEADER, b"\1" + UUID(made.guid).bytes + place)
    return ResultSeal(pipeline.output_format, b"", header, check, write)


_Format = tuple[str, bytes, Write]
"""The text of a schema, what stands behind its id, and what writes data."""


def _avro(task: str, encoding: str) -> _Format:
    from fastavro import parse_schema, schemaless_writer

    schema = avro_schema_of(task, encoding)
    parsed = parse_schema(schema)

    def write(value: bytes) -> bytes:
        file = BytesIO()
        schemaless_writer(file, parsed, to_avro(task, value))
        return file.getvalue()

    return json.dumps(schema), b"", write


def _protobuf(task: str, encoding: str) -> _Format:
    from streamer.kafka.result_message import FIRST_MESSAGE, file_of, message_of

    file = file_of(task, encoding)
    message = message_of(file)
    # Serialised, as Python's producers register theirs: all registries give that to readers in Python.
    schema = base64.b64encode(file.SerializeToString(deterministic=True)).decode()

    def write(value: bytes) -> bytes:
        data: bytes = message(**to_proto(task, value)).SerializeToString()
        return data

    return schema, FIRST_MESSAGE, write


def _json_schema(task: str, _: str) -> _Format:
    return json.dumps(json_schema_of(task)), b"", lambda value: value


_FORMATS: Final[dict[str, Callable[[str, str], _Format]]] = {
    "avro": _avro,
    "protobuf": _protobuf,
    "json-schema": _json_schema,
}
"""By format: the schema of a task's results."""


def _away(error: Exception, config: SchemaRegistryConfig, subject: str) -> DependencyError:
    what, fix = outage_of(error, config.url)
    return DependencyError(
        f"{what}, so that the schema of the results can't be had as {subject}; {fix}, and start again"
    )


def _refusal(error: Any, subject: str, pipeline: PipelineConfig, url: str) -> str:
    """Why a restart does not help, "" where it may."""
    if error.http_status_code == 409:
        return (
            f"subject {subject} has a schema that the results of {pipeline.task} do not go with (HTTP 409); name"
            " another output_subject, or have its compatibility relaxed"
        )
    if error.http_status_code == 422:
        return "the schema registry refuses the schema of the results (HTTP 422); set another output_format"
    if error.http_status_code == 404 and not pipeline.auto_register and error.error_code in range(40400, 40500):
        return (
            f"subject {subject} does not have the schema of the results of {pipeline.task}, and auto_register is false;"
            " register it: run this pipeline once with auto_register = true, as a user who may"
        )
    if error.http_status_code in (401, 403):
        return "; ".join(outage_of(error, url))
    return ""
