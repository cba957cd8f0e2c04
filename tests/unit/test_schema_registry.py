"""Events in the formats of a schema registry: what is read, what is refused, and what waits while it is away."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.schema_registry_client import Rule, RuleKind, RuleMode, RuleSet, SchemaReference

from streamer.cli import main
from streamer.config.load import Config, PipelineConfig, load, redacted
from streamer.config.registry import SchemaRegistryConfig
from streamer.config.shapes import shape_of
from streamer.core.deadletters.replay import Move
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.events.codec import Codec, Framed
from streamer.core.pipeline.protocol import Assigned, SchemasLearned
from streamer.core.pipeline.sealed import Seals
from streamer.core.record import Headers, Outcome, Segment, TextEvent
from streamer.errors import Code, ConfigurationError, DataFailure, DependencyError, ExitCode
from streamer.kafka import registry_client
from streamer.kafka import schemas as adapter
from streamer.kafka.readings import Results
from streamer.kafka.schemas import RegistrySchemas
from streamer.ops.doctor.examine import _registry
from tests.acceptance.certificates import make_certificates
from tests.records import FakeRecord
from tests.schema_registry import TICKET, SchemaServer, avro, json_schema, protobuf, schema_server
from tests.unit.deadletters_kit import ours
from tests.unit.pipeline_kit import Kit, segment, taken
from tests.unit.test_deadletters_replay import policy

SECRET = "hunter2"
EVENT = {"id": 7, "text": "It does not start", "price": Decimal("1.50"), "metadata": {"lang": "en"}}


@pytest.fixture
def mock() -> SchemaRegistryClient:
    """The registry that the client's package brings for tests."""
    return SchemaRegistryClient.new_client({"url": "mock://"})


@pytest.fixture
def server() -> Iterator[SchemaServer]:
    with schema_server() as server:
        yield server


class Reader:
    """Reads values as a pipeline with these fields would, once it has learned their schemas."""

    def __init__(self, client: Any, input_format: Any, **fields: Any) -> None:
        self.pipeline = PipelineConfig(
            task="t", model="m", input=["in"], output="out", input_format=input_format, **fields
        )
        self.now = 100.0
        config = SchemaRegistryConfig(url="http://registry")
        self.schemas = RegistrySchemas(config, self.pipeline, make_client=lambda _: client, clock=lambda: self.now)

    def read(self, value: bytes, headers: Headers | None = None) -> TextEvent | Outcome | None:
        codec = Codec("p", shape=shape_of(self.pipeline), schemas=self.schemas)
        segment = Segment("in", 0, 1, [FakeRecord(value, headers=headers)])
        for name in codec.unknown(segment):
            self.schemas.learn_now(name)
        assert codec.unknown(segment) == []
        codec.decode(segment)
        return segment.events[0] or segment.outcomes[0]

    def failure(self, value: bytes, headers: Headers | None = None) -> DataFailure:
        found = self.read(value, headers)
        assert isinstance(found, DataFailure), found
        assert SECRET not in found.message
        return found


def metadata_of(event: object) -> Any:
    assert isinstance(event, TextEvent)
    return event.metadata and json.loads(bytes(event.metadata))


@pytest.mark.parametrize("in_headers", [False, True])
def test_avro_is_read_like_json(mock: SchemaRegistryClient, in_headers: bool) -> None:
    """Our own fields, or those that are named, with the schema's id before the data or in a header."""
    form: dict[str, Any] = {"schema.id.serializer": header_schema_id_serializer} if in_headers else {}
    value, headers = avro(mock, EVENT, "in", **form)
    assert bool(headers) == in_headers
    event = Reader(mock, "avro").read(value, headers)
    assert isinstance(event, TextEvent)
    assert (event.text, event.id, metadata_of(event)) == ("It does not start", 7, {"lang": "en"})
    shaped = Reader(mock, "avro", text_field="metadata.lang", id_field="text", keep=["price"])
    event = shaped.read(value, headers)
    assert isinstance(event, TextEvent)
    assert (event.text, event.id, metadata_of(event)) == ("en", "It does not start", {"price": "1.50"})
    assert Reader(mock, "avro", text_field="id").failure(value, headers).message == "$.id is a number, not a string."


def test_json_schema_and_protobuf(mock: SchemaRegistryClient) -> None:
    """JSON keeps its bytes; of Protobuf the message that the record names is read, with unset fields."""
    value = json_schema(mock, {"id": 7, "text": "a"}, "in")
    assert Reader(mock, "json-schema").read(value) == TextEvent("a", 7)
    kept = value[:5] + b'{"text": "a", "n": 1.10}'
    assert bytes(Reader(mock, "json-schema", text_field="text", keep=["n"]).read(kept).metadata) == b'{"n":1.10}'  # type: ignore
    value = protobuf(mock, {"id": 7, "text": "a"}, "in")
    assert Reader(mock, "protobuf").read(value) == TextEvent("a", "7")
    assert Reader(mock, "protobuf").failure(protobuf(mock, {"id": 7}, "in")).code is Code.VALIDATE_EMPTY_TEXT
    assert Reader(mock, "protobuf", text_field="lang").failure(value).code is Code.VALIDATE_EMPTY_TEXT


def test_what_does_not_fit_becomes_a_dead_letter(mock: SchemaRegistryClient) -> None:
    """It says what is wrong, and quotes nothing."""
    good, _ = avro(mock, EVENT, "in")
    other = json_schema(mock, {"text": "a"}, "in")
    by_proto = protobuf(mock, {"text": "a"}, "in")
    reader = Reader(mock, "avro")
    for value, part in (
        (json.dumps({"text": SECRET}).encode(), "names no schema"),
        (b"\0\0\0\0\1", "names no schema"),
        (b"\0\0\0\x03\xe7" + SECRET.encode(), "has no schema 999"),
        (good[:9], "can't be read as avro"),
        (other, "Its schema 2 is json-schema; the pipeline's input_format is avro"),
    ):
        found = reader.failure(value)
        assert (found.code, part in found.message) == (Code.DECODE_SCHEMA, True), found
    assert "names no schema" not in reader.failure(good, [("__value_schema_id", SECRET.encode())]).message
    broken = Reader(mock, "json-schema").failure(other[:5] + json.dumps({"text": [SECRET]}).encode())
    assert "breaks its schema at properties/text/type" in broken.message
    assert Reader(mock, "json-schema").failure(other[:5] + SECRET.encode()).exception == "DecodeError"
    for value in (by_proto[:5] + b"\x02\x63" + SECRET.encode(), by_proto[:-1], by_proto[:5] + b"\xff" * 9):
        assert Reader(mock, "protobuf").failure(value).code is Code.DECODE_SCHEMA


def test_a_producer_can_not_fill_the_memory_with_names(mock: SchemaRegistryClient) -> None:
    """What stands in a header behind a schema's id is none of its name, and what is no id is not kept whole."""
    value, _ = avro(mock, EVENT, "in")
    reader = Reader(mock, "avro")
    for number in range(3):
        found = reader.read(value[5:], [("__value_schema_id", value[:5] + number.to_bytes(4))])
        assert isinstance(found, TextEvent)
        reader.failure(value[5:], [("__value_schema_id", b"\7" * 20 + number.to_bytes(100_000))])
    assert sorted(len(name) for _, name in reader.schemas._known) == [5, 17]


LINKED = {
    "type": "record",
    "name": "Linked",
    "fields": [{"name": "text", "type": "string"}, {"name": "next", "type": ["null", "Linked"], "default": None}],
}


@pytest.mark.parametrize("ruled", [False, True])
def test_data_deeper_than_the_stack_becomes_a_dead_letter(mock: SchemaRegistryClient, ruled: bool) -> None:
    """50 kB by a schema that refers to itself. Compiled code that follows it ends the process."""
    condition = Rule(
        "all", None, RuleKind.CONDITION, RuleMode.READ, "CEL", None, None, "true", None, None, False
    )  # with rules the library reads
    rules = RuleSet(None, [condition]) if ruled else None
    number = mock.register_schema("in-value", Schema(json.dumps(LINKED), "AVRO", [], None, rules))
    link = b"\x08good\x02"
    deep = b"\0" + number.to_bytes(4) + 10_000 * link + b"\x08good\0"
    reader = Reader(mock, "avro")
    assert reader.failure(deep).exception == "RecursionError"
    if not ruled:
        assert isinstance(reader.read(deep[:5] + 50 * link + b"\x08good\0"), TextEvent)


EMPTY: dict[str, Any] = {"type": "record", "name": "E", "fields": []}


def itself(name: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "a", "type": name}]}


@pytest.mark.parametrize(
    ("of", "what"),
    [
        ({"type": "array", "items": "null"}, "ValueError"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, "ValueError"),
        ({"type": "map", "values": {"type": "array", "items": EMPTY}}, "ValueError"),
        (["null", {"type": "array", "items": {"type": "null"}}], "ValueError"),
        (itself("Endless"), "RecursionError"),
    ],
)
def test_a_few_bytes_that_claim_to_be_many_become_a_dead_letter(mock: SchemaRegistryClient, of: Any, what: str) -> None:
    """200 million items of no bytes are a GB of memory, and a record that holds itself has no end."""
    fields = [{"name": "text", "type": "string"}, {"name": "of", "type": of}]
    schema = json.dumps({"type": "record", "name": "R", "fields": fields})
    number = mock.register_schema("in-value", Schema(schema, "AVRO"))
    failure = Reader(mock, "avro").failure(b"\0" + number.to_bytes(4) + b"\x08good" + b"\x80\x88\xde\xbe\x01\0")
    assert what in (failure.exception or failure.message)


def test_a_schema_whose_types_are_used_many_times_is_looked_at_once(mock: SchemaRegistryClient) -> None:
    """Sixty records, each with two of the one before: the shortest data of it has 2^60 parts, and its look-up none."""
    of: Any = ["null", {"type": "record", "name": "R0", "fields": [{"name": "a", "type": "string"}]}]
    for number in range(1, 60):
        again = ["null", f"R{number - 1}"]
        one = {
            "type": "record",
            "name": f"R{number}",
            "fields": [{"name": "a", "type": of}, {"name": "b", "type": again}],
        }
        of = ["null", one]
    fields = [{"name": "text", "type": "string"}, {"name": "of", "type": of}]
    schema = json.dumps({"type": "record", "name": "R", "fields": fields})
    number = mock.register_schema("in-value", Schema(schema, "AVRO"))
    assert isinstance(Reader(mock, "avro").read(b"\0" + number.to_bytes(4) + b"\x08good\0"), TextEvent)


def test_what_a_json_schema_refers_to_on_the_web_is_fetched_once(
    mock: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the schema, not with each value. Where it can't be, the schema is refused, and asked for again."""
    from referencing import Resource
    from referencing.exceptions import NoSuchResource

    pages: dict[str, Any] = {"http://web/point.json": {"$ref": "parts/number.json"}}
    fetched: list[str] = []

    def fetch(address: str) -> Any:
        fetched.append(address)
        if address not in pages:
            raise NoSuchResource(address)
        return Resource.opaque(pages[address])

    monkeypatch.setattr("confluent_kafka.schema_registry._sync.json_schema._retrieve_via_httpx", fetch)
    properties = {
        "text": {"$ref": "#/definitions/words"},
        "at": {"$ref": "http://web/point.json"},
        "of": {"$ref": "http://json-schema.org/draft-07/schema#"},
        "default": {"$ref": "words.json"},
    }
    schema = {
        "type": "object",
        "properties": properties,
        "definitions": {"words": {"$id": "words.json", "type": "string"}},
    }
    number = mock.register_schema("in-value", Schema(json.dumps({**schema, "$id": "http://web/whole.json"}), "JSON"))
    reader = Reader(mock, "json-schema")
    start = b"\0" + number.to_bytes(4)
    assert "can't be read" in reader.failure(start + b'{"text": "a"}').message
    assert fetched == ["http://web/point.json", "http://web/parts/number.json"]
    pages["http://web/parts/number.json"] = {"type": "number"}
    reader.now += 61
    fetched.clear()
    for _ in range(3):
        assert isinstance(reader.read(start + b'{"text": "a", "at": 1, "of": {"type": "object"}}'), TextEvent)
        assert "breaks its schema" in reader.failure(start + b'{"text": "a", "at": "b"}').message
    assert fetched == ["http://web/point.json", "http://web/parts/number.json"]


def test_pages_of_schemas_without_end_are_refused(mock: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from referencing import Resource

    def fetch(address: str) -> Any:
        return Resource.opaque({"$ref": address + "1"})

    monkeypatch.setattr("confluent_kafka.schema_registry._sync.json_schema._retrieve_via_httpx", fetch)
    number = mock.register_schema("in-value", Schema(json.dumps({"$ref": "http://web/1"}), "JSON"))
    assert "(ValueError)" in Reader(mock, "json-schema").failure(b"\0" + number.to_bytes(4) + b"{}").message


def test_no_pattern_of_a_schema_holds_the_driver(mock: SchemaRegistryClient) -> None:
    """One that takes Python's `re` years, wherever it stands: behind a reference, in a part of another draft."""
    slow, text = "^(a+)+$", "a" * 60 + "!"
    draft = "http://json-schema.org/draft-07/schema#"
    properties = {
        "text": {"$ref": "#/definitions/slow"},
        "other": {"$id": "http://web/other", "$schema": draft, "patternProperties": {slow: {"type": "string"}}},
        "closed": {"additionalProperties": False, "patternProperties": {slow: True, r"^\u00e9\d$": True}},
        "names": {"propertyNames": {"pattern": slow}},
    }
    schema = {"type": "object", "properties": properties, "definitions": {"slow": {"pattern": slow}}}
    number = mock.register_schema("in-value", Schema(json.dumps(schema), "JSON"))
    reader, start = Reader(mock, "json-schema"), b"\0" + number.to_bytes(4)
    good = {"text": "aa", "other": {text: 1}, "closed": {"aa": 1, "é1": 1}, "names": {"a": 1}}
    assert reader.read(start + json.dumps(good).encode()) == TextEvent("aa")
    for change, place in (
        ({"text": text}, "properties/text/pattern"),
        ({"other": {"a": 1}}, f"properties/other/patternProperties/{slow}/type"),
        ({"closed": {text: 1}}, "properties/closed/additionalProperties"),
        ({"closed": {"é٣": 1}}, "properties/closed/additionalProperties"),  # a digit, but not to JSON Schema
        ({"names": {text: 1}}, "properties/names/propertyNames/pattern"),
    ):
        message = reader.failure(start + json.dumps(good | change).encode()).message
        assert f"breaks its schema at {place}" in message


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (
            {"properties": {"enum": {"items": [{"pattern": "a(?=b)"}]}}},
            "at #/properties/enum/items/0/pattern, a regular",
        ),
        ({"patternProperties": {r"(a)\1": True}}, "at #/patternProperties, a regular"),
        (
            {"allOf": [{"patternProperties": {"a": True}}], "unevaluatedProperties": False},
            "at #/unevaluatedProperties,",
        ),
    ],
)
def test_patterns_that_can_not_be_matched_in_linear_time(
    mock: SchemaRegistryClient, schema: dict[str, Any], words: str
) -> None:
    """The dead letter says where they are, and what to do; data that looks like a pattern is none."""
    number = mock.register_schema("in-value", Schema(json.dumps(schema), "JSON"))
    message = Reader(mock, "json-schema").failure(b"\0" + number.to_bytes(4) + b'{"text": "a"}').message
    assert message.startswith(f"Its schema {number} has")
    assert words in message
    data = {"enum": [{"text": "a", "pattern": "(?=b)"}], "properties": {"pattern": {"type": "string"}}}
    number = mock.register_schema("in-value", Schema(json.dumps(data), "JSON"))
    value = b"\0" + number.to_bytes(4) + b'{"text": "a", "pattern": "(?=b)"}'
    assert isinstance(Reader(mock, "json-schema").read(value), TextEvent)


def test_rules_that_can_not_be_run_let_no_text_pass(mock: SchemaRegistryClient) -> None:
    """A field that a rule decrypts is not read as it is."""
    rule = Rule(
        "decrypt", None, RuleKind.TRANSFORM, RuleMode.WRITEREAD, "ENCRYPT", ["PII"], None, None, None, None, False
    )
    schema = Schema(json.dumps(TICKET), "AVRO", [], None, RuleSet(None, [rule]))
    number = mock.register_schema("in-value", schema)
    value, _ = avro(mock, EVENT, "in")
    assert Reader(mock, "avro").failure(b"\0" + number.to_bytes(4) + value[5:]).code is Code.DECODE_SCHEMA


def test_a_schema_that_refers_to_others(server: SchemaServer) -> None:
    """All are fetched before the first record is read; afterwards nothing is asked any more."""
    client = server.client()
    lang = {"type": "record", "name": "Lang", "fields": [{"name": "code", "type": "string"}]}
    client.register_schema("lang", Schema(json.dumps(lang), "AVRO"))
    refers = {
        "type": "record",
        "name": "Post",
        "fields": [{"name": "text", "type": "string"}, {"name": "lang", "type": "Lang"}],
    }
    number = client.register_schema(
        "in-value", Schema(json.dumps(refers), "AVRO", [SchemaReference("Lang", "lang", 1)])
    )
    reader = Reader(server.client(), "avro", text_field="text", keep=["lang.code"])
    value = b"\0" + number.to_bytes(4) + b"\x02a\x04en"
    event = reader.read(value)
    assert metadata_of(event) == {"lang.code": "en"}
    server.asked.clear()
    assert reader.read(value) == reader.read(value)
    assert server.asked == []


def test_a_registry_that_serialises_no_protobuf(server: SchemaServer) -> None:
    """As Apicurio: what Python's producers register is serialised already; the text of a .proto file waits for one that
    does."""
    value = protobuf(server.client(), {"id": 7, "text": "a"}, "in")
    server.serialises = False
    client = server.client()
    assert Reader(client, "protobuf").read(value) == TextEvent("a", "7")
    whole, server.schemas[0]["schema"] = server.schemas[0]["schema"], 'syntax = "proto3"; message Ticket {}'
    client = server.client()
    for _ in range(2):
        with pytest.raises(DependencyError, match="HTTP 500"):
            Reader(client, "protobuf").read(value)
    server.serialises, server.schemas[0]["schema"] = True, whole
    assert Reader(client, "protobuf").read(value) == TextEvent("a", "7")


@pytest.mark.parametrize("status", [0, 500, 429, 401])
def test_while_the_registry_gives_nothing_nothing_is_known(server: SchemaServer, status: int) -> None:
    """It is no fault of the record, whose schema is asked for until it comes."""
    value, _ = avro(server.client(), EVENT, "in")
    client = server.client()
    server.status = status
    with pytest.raises(DependencyError):
        Reader(client, "avro").read(value)
    server.status = None
    assert isinstance(Reader(client, "avro").read(value), TextEvent)


def test_a_page_that_is_no_registry_makes_no_dead_letters(server: SchemaServer) -> None:
    """Nor does a lack of rights: a wrong address must not bury a topic."""
    value, _ = avro(server.client(), EVENT, "in")
    wrong = server.client("/elsewhere")
    with pytest.raises(DependencyError, match="is no schema registry"):
        Reader(wrong, "avro").read(value)
    with pytest.raises(DependencyError, match="does not let us in"):
        Reader(server.client(), "avro", input_subject="forbidden-value").read(value)


def test_the_configuration_reaches_the_client(server: SchemaServer) -> None:
    """Its user and password; and an outage tells neither."""
    server.login = f"me:{SECRET}"
    value, _ = avro(server.client(), EVENT, "in")
    pipeline = PipelineConfig(task="t", model="m", input=["in"], output="out", input_format="avro")
    name = ("in", value[:5])
    right = SchemaRegistryConfig(url=server.url, user="me", password=SECRET)
    wrong = SchemaRegistryConfig(url=server.url, user="me", password=f"x{SECRET}")
    with closing(RegistrySchemas(right, pipeline)) as schemas:
        schemas.learn_now(name)
    with closing(RegistrySchemas(wrong, pipeline)) as schemas, pytest.raises(DependencyError) as caught:
        schemas.learn_now(name)
    assert "HTTP 401" in str(caught.value)
    assert [check.findings for check in _registry(Config(schema_registry=right), {"p": pipeline})] == [[]]
    (check,) = _registry(Config(schema_registry=wrong), {"p": pipeline})
    assert [(one.code, "HTTP 401" in one.what) for one in check.findings] == [("registry.unreachable", True)]
    assert SECRET not in str(caught.value)


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    """The registry's is checked, and ours is shown; a file that is not there is told before the start."""
    files = make_certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.authority))
    tls.load_cert_chain(files.certificate, files.key)
    tls.verify_mode = ssl.CERT_REQUIRED
    pipeline = PipelineConfig(task="t", model="m", input=["in"], output="out", input_format="avro")
    with schema_server(tls) as server:
        server.schemas.append({"subject": "in-value", "version": 1, "id": 1, "guid": "", "schema": json.dumps(TICKET)})
        ours: dict[str, Any] = {"certificate_file": str(files.certificate), "key_file": str(files.key)}
        whole = SchemaRegistryConfig(url=server.url, ca_file=str(files.authority), **ours)
        with closing(RegistrySchemas(whole, pipeline)) as schemas:
            schemas.learn_now(("in", b"\0\0\0\0\1"))
        for fields in (dict[str, Any](ca_file=str(files.authority)), ours):
            part = SchemaRegistryConfig(url=server.url, **fields)
            with closing(RegistrySchemas(part, pipeline)) as schemas, pytest.raises(DependencyError):
                schemas.learn_now(("in", b"\0\0\0\0\1"))
    with pytest.raises(ConfigurationError, match=r"schema_registry.ca_file: /nowhere can't be read"):
        RegistrySchemas(SchemaRegistryConfig(url="https://r", ca_file="/nowhere"), pipeline)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(registry_client, "find_spec", lambda name: None if name == "fastavro" else name)
    pipeline = PipelineConfig(task="t", model="m", input=["in"], output="out", input_format="avro")
    with pytest.raises(ConfigurationError, match=r"avro needs fastavro, which is not installed.*\[registry\]"):
        RegistrySchemas(SchemaRegistryConfig(), pipeline)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    """By its field, and without a word of the password."""
    file = tmp_path / "streamer.toml"
    needed = 'task = "t"\nmodel = "builtin:null"\ninput = "in"\noutput = "out"\n'
    for registry, fields, words in (
        ("", 'input_format = "avro"', "pipelines.p.input_format: avro needs a schema registry"),
        ("", 'output_format = "avro"', "pipelines.p.output_format: avro needs a schema registry"),
        ("", 'output_schema_id = "header"', "pipelines.p.output_schema_id: plain JSON has no schema"),
        ("", 'input_subject = "s"', "pipelines.p.input_subject: plain JSON has no subject"),
        (f'url = "http://me:{SECRET}@r"', "", "schema_registry.url: it holds a user or a password"),
        ('url = "redis://r"', "", "schema_registry.url: no URL of a schema registry"),
        ('url = "http://r:1, http://s:1/a b"', "", "schema_registry.url: no URL of a schema registry"),
        ('url = "http://r"\nuser = "me"', "", "schema_registry.password: user and password go together"),
        (f'password = "{SECRET}"\npassword_file = "x"', "", "keep one of the two"),
        ('key_file = "x"', "", "schema_registry.key_file: a key goes with a certificate"),
    ):
        file.write_text(f"[schema_registry]\n{registry}\n[pipelines.p]\n{needed}{fields}\n")
        with pytest.raises(ConfigurationError) as caught:
            load(file)
        assert words in str(caught.value)
        assert SECRET not in str(caught.value)
    (tmp_path / "password").write_text(f"{SECRET}\n")
    file.write_text(
        '[schema_registry]\nurl = "http://r"\nuser = "me"\npassword_file = "password"\nca_file = "ca.pem"\n'
    )
    config = load(file)
    assert (config.schema_registry.password, config.schema_registry.ca_file) == (SECRET, str(tmp_path / "ca.pem"))
    assert SECRET not in repr(config) + json.dumps(redacted(config))


def test_load_writes_no_json_where_another_format_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each record would become a dead letter."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    settings = {"task": "t", "model": "builtin:null", "input": "in", "output": "out", "input_format": "avro"}
    flags = [f"--set=pipelines.p.{name}={value}" for name, value in settings.items()]
    command = ["load", str(tmp_path / "rows.jsonl"), "in", *flags, "--set=schema_registry.url=http://127.0.0.1:1"]
    assert main(command) == ExitCode.USAGE
    assert "input_format" in capsys.readouterr().err


def test_a_schema_that_was_not_there_is_asked_for_again(
    mock: SchemaRegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute; until then its records become dead letters at no cost. The oldest are forgotten."""
    reader = Reader(mock, "avro")
    value = b"\0\0\0\0\1" + b"\x0e\x22It does not start\0\x02\x96"
    assert reader.failure(value).code is Code.DECODE_SCHEMA
    avro(mock, EVENT, "in")
    assert reader.failure(value).code is Code.DECODE_SCHEMA
    reader.now += 2 * adapter.REFUSED_S
    assert isinstance(reader.read(value), TextEvent)
    monkeypatch.setattr(adapter, "MOST_REFUSED", 4)
    for number in range(2, 12):
        reader.failure(b"\0" + number.to_bytes(4) + b"x")
    assert len(reader.schemas._known) <= 5
    assert isinstance(reader.read(value), TextEvent)


def test_a_schema_that_is_not_given_keeps_no_other_waiting(server: SchemaServer) -> None:
    """It is asked for again in its turn, and only the partition that waits for it is said to stand."""
    client = server.client()
    other = {**TICKET, "name": "Other"}
    values = {"forbidden": avro(client, EVENT, "forbidden", other)[0], "in": avro(client, EVENT, "in")[0]}
    pipeline = PipelineConfig(task="t", model="m", input=list(values), output="out", input_format="avro")
    facts: SimpleQueue[Any] = SimpleQueue()
    config = SchemaRegistryConfig(url=server.url)
    with ExitStack() as stack:
        schemas = RegistrySchemas(config, pipeline, facts.put)
        stack.callback(schemas.close, 5)
        schemas.learn([(topic, value[:5]) for topic, value in reversed(values.items())])
        assert facts.get(timeout=5) == SchemasLearned([("in", values["in"][:5])])
        kit = Kit()
        kit.pipeline.seals = Seals(Codec("p", schemas=schemas).unknown, kit.pipeline.policy.budget_bytes)
        kit.feed(Assigned({(topic, 0): 1 for topic in values}))
        kit.feed(taken(1, *(segment([value], topic=topic) for topic, value in values.items())))
        assert [one.partition for one in schemas.standing(kit.pipeline)] == [("forbidden", 0)]


def test_what_is_no_result_is_read_as_it_is(server: SchemaServer) -> None:
    """Somebody else's records in the topic of results, also where the registry knows their schema."""
    pipeline = PipelineConfig(task="t", model="m", input=["in"], output="out", output_format="avro")
    results = Results(Config(schema_registry=SchemaRegistryConfig(url=server.url), pipelines={"p": pipeline}))
    text: Any = "a"
    for value in (avro(server.client(), EVENT, "out")[0], avro(server.client(), text, "out", "string")[0], b"\0" * 6):
        assert results.plain(FakeRecord(value, topic="out")) == value


def test_several_threads_may_read_results(server: SchemaServer) -> None:
    """As those that look results up: one closes no connection that another one uses."""
    client = server.client()
    schemas = [{**TICKET, "name": f"Ticket{number}"} for number in range(8)]
    values = [avro(client, EVENT, "out", schema)[0] for schema in schemas]
    pipeline = PipelineConfig(task="t", model="m", input=["in"], output="out", output_format="avro")
    for _ in range(5):
        server.asked.clear()
        results = Results(Config(schema_registry=SchemaRegistryConfig(url=server.url), pipelines={"p": pipeline}))
        records = [FakeRecord(value, topic="out") for value in values]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(results.plain, records)) == values
        assert len(server.asked) == len(values)


@pytest.mark.parametrize(
    ("value", "fields", "expected"),
    [
        (EVENT, {}, "7"),
        (EVENT, {"text_field": "text", "id_field": "metadata.lang"}, "en"),
        ({**EVENT, "text": ""}, {}, "7"),
        ({**EVENT, "text": ""}, {"text_field": "text", "id_field": "metadata.lang"}, "en"),
    ],
)
def test_a_replay_keeps_the_id_and_the_bytes(
    mock: SchemaRegistryClient, value: dict[str, Any], fields: dict[str, Any], expected: str
) -> None:
    """That its first result had or would have had, also where the rest is no event."""
    reader = Reader(mock, "avro", **fields)
    written, _ = avro(mock, value, "in")
    reader.schemas.learn_now(("in", written[:5]))
    reading = Framed(reader.schemas, shape_of(reader.pipeline))
    (letter,) = Selector(Selection(), readings={"p": reading}).pick([ours(value=written)])
    decision = policy()(letter)
    assert isinstance(decision, Move)
    (_, _, _, again, headers), *_ = decision.outputs
    assert (again, dict(headers)["streamer.replay.id"]) == (written, expected.encode())


def _error(call: Callable[[], object]) -> tuple[int, bool]:
    with pytest.raises(SchemaRegistryError) as caught:
        call()
    return caught.value.http_status_code, caught.value.error_code in range(40400, 40500)


def test_the_server_of_these_tests_answers_as_the_client_for_tests_does(
    mock: SchemaRegistryClient, server: SchemaServer
) -> None:
    """What producers and we ask: schemas by id, GUID and version, and what is not there."""

    def seen(client: SchemaRegistryClient) -> list[object]:
        client.clear_caches()  # type: ignore[no-untyped-call]
        first, second = Schema('"string"', "AVRO"), Schema('{"type": "object"}', "JSON")
        third, fourth = Schema('"long"', "AVRO"), Schema('{"type": "array"}', "JSON")
        ids = [client.register_schema(subject, one) for subject, one in (("a", first), ("a", second), ("b", third))]
        found = client.register_schema_full_response("b", fourth)
        client.clear_caches()  # type: ignore[no-untyped-call]
        return [
            ids,
            (found.schema_id, found.version),
            client.get_schema(ids[0], "a", None),
            client.get_schema(ids[1], "a", "serialized"),
            client.get_schema_by_guid(str(found.guid)),
            client.get_version("a", 2, True).schema,
            client.get_latest_version("b").version,
            client.lookup_schema("a", first).version,
            _error(lambda: client.get_schema(99, "a")),
            _error(lambda: client.get_schema_by_guid("0" * 32)),
            _error(lambda: client.get_version("a", 9)),
            _error(lambda: client.lookup_schema("c", first)),
        ]

    assert seen(server.client()) == seen(mock)
