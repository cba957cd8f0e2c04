"""Results in formats of a schema registry: the schemas, what is written with them, and what is read back."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

from streamer.config.load import Config, PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.core.events.framed import Seal
from streamer.core.pipeline.protocol import Run
from streamer.core.record import Answer, TextEvent
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.core.results.outputs import OUTPUTS
from streamer.core.results.proto import EMPTY, NUMBERS, from_proto
from streamer.core.results.schema import avro_schema_of, check_of, from_avro, json_schema_of, to_avro
from streamer.errors import Code, ConfigurationError, DataFailure, DependencyError
from streamer.kafka.readings import Results
from streamer.kafka.result_message import file_of, message_of
from streamer.kafka.result_registry import register
from streamer.kafka.schemas import RegistrySchemas
from tests.records import FakeRecord
from tests.schema_registry import BY_TOPIC, SchemaServer, schema_server
from tests.unit.pipeline_kit import CARD, batch, segment

SCHEMAS = Path(__file__).parents[2] / "schemas"
RESULT: dict[str, Any] = json.loads((SCHEMAS / "result.json").read_text(encoding="utf-8"))["examples"][0]
CUSTOM = {"anything": [1, None, "é"]}


def outputs_of(task: str) -> list[Any]:
    """The examples of its output's schema, and each with every list empty or missing that may be."""
    file = SCHEMAS / "outputs" / f"{task}.json"
    if not file.exists():
        return [CUSTOM]
    found = list(json.loads(file.read_text(encoding="utf-8"))["examples"])
    for kind in OUTPUTS[task]:
        names = [one.name for one in msgspec.structs.fields(kind) if "list[" in str(one.type)]
        for name in names:
            others = [{field: part for field, part in output.items() if field != name} for output in found]
            for output in [*others, *({**output, name: []} for output in others)]:
                with suppress(msgspec.ValidationError):
                    msgspec.convert(output, kind)
                    found.append(output)
    return found


def test_lists_that_may_be_empty_or_missing_are_known() -> None:
    """Protobuf can't tell the two apart by itself."""
    forms = [output for task in OUTPUTS for output in outputs_of(task)]
    both = {
        name
        for one in forms
        for name, part in one.items()
        if part == [] and any(one.keys() - {name} == other.keys() for other in forms)
    }
    assert both == set(EMPTY)


@pytest.fixture
def server() -> Iterator[SchemaServer]:
    with schema_server() as server:
        yield server


@pytest.mark.parametrize("task", [*OUTPUTS, "custom"])
def test_a_result_of_each_task_is_written_and_read_back(task: str) -> None:
    """Every example that its schema has, as Avro and held to the JSON Schema; one with a field too much is refused."""
    schema, check = json_schema_of(task), check_of(task)
    jsonschema.Draft202012Validator.check_schema(schema)
    for output in outputs_of(task):
        for more in ({}, {"metadata": {"lang": "en", "n": [1, None, 2.5]}}):
            result = {**RESULT, "task": task, "output": output, **more}
            if not more:
                result.pop("metadata", None)
            value = json.dumps(result).encode()
            jsonschema.validate(result, schema)
            check(value)
            file = BytesIO()
            parsed = parse_schema(avro_schema_of(task, "base64" if "dtype" in output else "float"))
            schemaless_writer(file, parsed, to_avro(task, value), strict_allow_default=True)
            file.seek(0)
            opened = msgspec.json.encode(schemaless_reader(file, parsed, None))
            assert json.loads(from_avro(opened)) == result
    if task in OUTPUTS:
        wrong = {**RESULT, "task": task, "output": {**outputs_of(task)[0], "more": 1}}
        with pytest.raises(msgspec.ValidationError):
            check(json.dumps(wrong).encode())
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def pipeline_of(output_format: Any, **fields: Any) -> PipelineConfig:
    task = fields.pop("task", "text-classification")
    output = fields.pop("output", "out")
    return PipelineConfig(task=task, model="m", input=["in"], output=output, output_format=output_format, **fields)


def written(seal: Seal, output: bytes) -> tuple[Any, Any]:
    """What an encoder makes of this output: the record, and the outcome."""
    encoder = Encoder(
        pipeline="p",
        task="text-classification",
        card=CARD,
        output_topic="out",
        dead_letter_topic="dlq",
        limits=OutputLimits(1 << 20, 1 << 20),
        seal=seal,
    )
    one = segment(["a"])
    one.outcomes = [Answer(output)]
    one.events = [TextEvent("a", "7", metadata=msgspec.Raw(b'{"lang":"en"}'))]
    (record,) = encoder.encode(Run(batch(1, one), one, 0, 1), 0)
    return record, one.outcomes[0]


def of(topic: str, record: Any) -> FakeRecord:
    """As a subscriber of this topic gets it."""
    return FakeRecord(record[3], headers=record[4], topic=topic)


def test_subscribers_read_what_is_registered(server: SchemaServer) -> None:
    """By confluent-kafka's deserializer in Avro, and by ours; a model whose output is another makes a dead letter."""
    client = server.client()
    config = SchemaRegistryConfig(url=server.url)
    record, _ = written(register(config, pipeline_of("avro")), b'{"label":"joy","score":1}')
    assert dict(record[4])["content-type"] == b"application/octet-stream"
    read = AvroDeserializer(client, conf=BY_TOPIC)(record[3], SerializationContext("out", MessageField.VALUE))
    assert isinstance(read, dict)
    assert (read["id"], read["output"]["score"], read["metadata"]) == ("7", 1.0, '{"lang":"en"}')
    assert [one["subject"] for one in server.schemas] == ["out-value"]
    results = Results(Config(schema_registry=config, pipelines={"p": pipeline_of("avro")}))
    told = json.loads(results.plain(of("out", record)))
    assert (told["output"], told["metadata"]) == ({"label": "joy", "score": 1.0}, {"lang": "en"})
    assert results.plain(of("other", record)) == record[3]
    assert results.plain(FakeRecord(b'{"id":1}', topic="out")) == b'{"id":1}'
    record, outcome = written(register(config, pipeline_of("avro")), b'{"label":"joy","score":1,"more":2}')
    assert record[0] == "dlq"
    assert isinstance(outcome, DataFailure)
    assert outcome.code is Code.PUBLISH_REFUSED
    record, outcome = written(register(config, pipeline_of("avro")), b'{"label":"joy","score":1,"windows":%d}' % 2**70)
    assert isinstance(outcome, DataFailure)
    plain = pipeline_of("json-schema", output_subject="other")
    record, _ = written(register(config, plain), b'{"label":"joy","score":1}')
    assert json.loads(record[3][5:])["output"] == {"label": "joy", "score": 1}
    assert server.schemas[-1]["subject"] == "other"


@pytest.mark.parametrize("output_format", ["avro", "protobuf", "json-schema"])
def test_a_header_may_name_the_schema(server: SchemaServer, output_format: Any) -> None:
    """The value is bare then; both deserializers look there. A registry without GUIDs can't be used so."""
    client, config = server.client(), SchemaRegistryConfig(url=server.url)
    pipeline = pipeline_of(output_format, output_schema_id="header")
    seal = register(config, pipeline)
    record, _ = written(seal, b'{"label":"joy","score":1}')
    assert dict(record[4])["__value_schema_id"][1:17] == uuid.UUID(server.schemas[0]["guid"]).bytes
    context = SerializationContext("out", MessageField.VALUE, record[4])
    read: Any
    if output_format == "avro":
        read = AvroDeserializer(client, conf=BY_TOPIC)(record[3], context)
    elif output_format == "protobuf":
        message = message_of(file_of("text-classification", "float"))
        read = MessageToDict(ProtobufDeserializer(message, BY_TOPIC, client)(record[3], context))
    else:
        read = JSONDeserializer(None, schema_registry_client=client, conf=BY_TOPIC)(record[3], context)
    assert (read["id"], read["output"]["score"]) == ("7", 1.0)
    results = Results(Config(schema_registry=config, pipelines={"p": pipeline}))
    told = json.loads(results.plain(of("out", record)))
    assert (told["output"], told["metadata"]) == ({"label": "joy", "score": 1.0}, {"lang": "en"})
    record, outcome = written(seal, b'{"label":"joy","score":1,"more":2}')
    assert isinstance(outcome, DataFailure)
    assert "__value_schema_id" not in dict(record[4])
    for one in server.schemas:
        del one["guid"]
    with pytest.raises(ConfigurationError, match=r'has no GUIDs.*output_schema_id = "value"'):
        register(config, pipeline)


@pytest.mark.parametrize("task", [*OUTPUTS, "custom"])
def test_subscribers_read_protobuf(task: str) -> None:
    """Each example of each task, by confluent-kafka's deserializer and by ours; a number too large is refused."""
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    for output in outputs_of(task):
        options = {"encoding": "base64" if "dtype" in output else "float"}
        pipeline = pipeline_of("protobuf", task=task, options=options, output_subject=options["encoding"])
        result = {**RESULT, "task": task, "output": output, "metadata": {"lang": "en", "n": [1, None, 2.5, 2**63]}}
        result["source"] = {**result["source"], "offset": 2**53 + 1}
        value = register(SchemaRegistryConfig(), pipeline, client)(json.dumps(result).encode())
        message = message_of(file_of(task, **options))
        read = ProtobufDeserializer(message, BY_TOPIC, client)(value, SerializationContext("out", MessageField.VALUE))
        assert read.id == result["id"]
        assert json.loads(read.metadata) == result["metadata"]
        ours = msgspec.structs.replace(pipeline, input_format="protobuf", input_subject=pipeline.output_subject)
        schemas = RegistrySchemas(SchemaRegistryConfig(), ours, make_client=lambda _: client)
        schemas.learn_now(("out", value[:5]))
        opened = schemas.open(value, None, "out")
        assert isinstance(opened, bytes)
        told = json.loads(from_proto(opened))
        assert told == result
        assert [list(told), list(told["source"])] == [list(result), list(result["source"])]
        too_large = {**result, "source": {**result["source"], "partition": 2**31}}
        with pytest.raises(ValueError, match="no form in protobuf"):
            register(SchemaRegistryConfig(), pipeline, client)(json.dumps(too_large).encode())


def test_the_numbers_of_protobufs_fields_are_for_good() -> None:
    """Whoever renames, moves or removes one breaks all subscribers. Add new ones here once they are published."""
    published = tuple(NUMBERS)[: NUMBERS["reason"]]
    assert zlib.crc32(" ".join(published).encode()) == 3215853055


def test_a_schema_that_can_not_be_used_ends_the_start(server: SchemaServer) -> None:
    """It is not there, does not go with others, or may not be written; a registry that is away may come back."""
    config = SchemaRegistryConfig(url=server.url)
    fixed = pipeline_of("avro", auto_register=False)
    with pytest.raises(ConfigurationError, match="does not have the schema"):
        register(config, fixed)
    register(config, pipeline_of("avro"))
    register(config, fixed)
    for status, error, words in (
        (409, ConfigurationError, "do not go with"),
        (403, ConfigurationError, "does not let us in"),
        (503, DependencyError, "HTTP 503"),
    ):
        server.status = status
        with pytest.raises(error, match=words):
            register(config, pipeline_of("avro"))


def test_the_client_for_tests_takes_the_schemas() -> None:
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    for output_format in ("avro", "protobuf", "json-schema"):
        seal = register(SchemaRegistryConfig(), pipeline_of(output_format, task="rerank"), client)
        value = json.dumps({**RESULT, "task": "rerank", "output": {"score": 0.5}}).encode()
        assert seal(value)[:1] == b"\0"
