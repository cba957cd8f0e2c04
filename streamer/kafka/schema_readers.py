"""What makes JSON of a record's data by its schema, for each format of a schema registry.

confluent-kafka's deserializers parse the schemas, and read records whose schemas have rules. Without rules the data is
read by what they would call themselves: they expand the schema anew for each record, which takes five to ten times as
long as reading it (Avro 34 µs and 3, Protobuf 28 and 8).

These classes subclass the deserializers to reach what parses a schema.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol

import msgspec
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, dual_schema_id_deserializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext

from streamer.core.framed import data_of
from streamer.core.record import Headers

Read = Callable[[bytes, Headers | None, str], bytes]
"""The JSON of a value with these headers, from this topic. Raises whatever is wrong with it."""

_encode = msgspec.json.encode


class Format(Protocol):
    """One of the formats. `wire` is the form in which the registry is asked for schemas, None for the usual one."""

    wire: str | None

    def reader(self, schema: Schema) -> Read:
        """What reads values with this schema. Raises whatever is wrong with the schema."""
        ...


def format_of(name: str, client: SchemaRegistryClient, subject: Callable[[str], str]) -> Format:
    """The format of an `input_format`. Raises ImportError where a library is missing."""
    conf = {"subject.name.strategy": lambda context, _: subject(context.topic)}
    if name == "avro":
        return _avro(client, conf)
    return _protobuf(client, conf) if name == "protobuf" else _json_schema(client, conf)


def context_of(headers: Any, topic: str) -> SerializationContext:
    """Where a value stands, as the deserializers want it."""
    return SerializationContext(topic, MessageField.VALUE, headers)


def _avro(client: SchemaRegistryClient, conf: dict[str, Any]) -> Format:
    from confluent_kafka.schema_registry.avro import AvroDeserializer
    from fastavro import schemaless_reader

    class Avro(AvroDeserializer):
        wire = None

        def reader(self, schema: Schema) -> Read:
            parsed = self._get_parsed_schema(schema)
            if schema.rule_set:
                return lambda value, headers, topic: _encode(self(value, context_of(headers, topic)))
            return lambda value, headers, _: _encode(schemaless_reader(BytesIO(data_of(value, headers)), parsed, None))

    made: Format = Avro(client, conf=conf)
    return made


def _json_schema(client: SchemaRegistryClient, conf: dict[str, Any]) -> Format:
    from confluent_kafka.schema_registry.json_schema import JSONDeserializer

    class JsonSchema(JSONDeserializer):
        """Holds each value to its schema, and then gives its very bytes, unless rules change them."""

        wire = None

        def reader(self, schema: Schema) -> Read:
            self._get_parsed_schema(schema)

            def read(value: bytes, headers: Headers | None, topic: str) -> bytes:
                found = self(value, context_of(headers, topic))
                return _encode(found) if schema.rule_set else data_of(value, headers)

            return read

    made: Format = JsonSchema(None, schema_registry_client=client, conf=conf, json_decode=msgspec.json.decode)
    return made


def _protobuf(client: SchemaRegistryClient, conf: dict[str, Any]) -> Format:
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
    from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
    from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

    class Protobuf(ProtobufDeserializer):
        """Reads the message that a value names, of all those in its schema. Fields have their own names in JSON, and
        those that are not set their default."""

        wire = "serialized"

        def reader(self, schema: Schema) -> Read:
            proto, pool = self._get_parsed_schema(schema)
            file = pool.FindFileByName(proto.name)
            messages: dict[tuple[int, ...], Any] = {}

            def message_at(place: tuple[int, ...]) -> Any:
                if place not in messages:
                    kind = GetMessageClass(self._get_message_desc(pool, file, list(place)))
                    messages[place] = ProtobufDeserializer(kind, conf, client) if schema.rule_set else kind.FromString
                return messages[place]

            def read(value: bytes, headers: Headers | None, topic: str) -> bytes:
                context, named = context_of(headers, topic), SchemaId("PROTOBUF")
                data = dual_schema_id_deserializer(value, context, named).read()
                parse = message_at(tuple(named.message_indexes or ()))
                found = parse(value, context) if schema.rule_set else parse(data)
                told = MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
                return _encode(told)

            return read

    made: Format = Protobuf(Empty, conf, client)
    return made
