"""The fields that say how values are read and written, for a pipeline to have: each with when to change it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

InputFormat = Annotated[
    Literal["json", "avro", "protobuf", "json-schema"],
    Meta(
        description="How values are written: json, or what a serializer of the schema registry writes, whose fields"
        " are then read like JSON. Set it to read a topic in Avro, Protobuf or JSON Schema; it needs"
        " schema_registry.url."
    ),
]
InputSubject = Annotated[
    str,
    Meta(
        description='Subject of the values in the schema registry; "" means {topic}-value. Set it where the'
        " producer names subjects in another way."
    ),
]
TextField = Annotated[
    str,
    Meta(
        description="Where the text is in events of your own format: a field of the JSON object, or a path such"
        ' as body.message; "" means the format of docs/events.md. Set it to read a topic of any JSON; then only'
        " the fields that you name are read."
    ),
]
TextPairField = Annotated[
    str,
    Meta(
        description="With text_field: where the second text is, e.g. the context of a question. Set it for"
        " tasks that take two texts."
    ),
]
IdField = Annotated[
    str,
    Meta(
        description="With text_field: where the event's id is, a string or an integer. Set it to find results"
        ' by your own ids; with "" their id is topic/partition/offset.'
    ),
]
Keep = Annotated[
    list[Annotated[str, Meta(min_length=1)]],
    Meta(
        description='With text_field: fields or paths that results carry as metadata, at most 8 KiB together; "*"'
        " means all but the text. Name what readers of the results need."
    ),
]
Envelope = Annotated[
    Literal["none", "connect", "debezium"],
    Meta(
        description="With text_field: what the value is wrapped in. connect reads the payload that Kafka Connect's"
        " JsonConverter writes beside a schema; debezium reads the row after a change, with or without a"
        " schema, and skips deletes. Paths start in the payload or row. Set it if Connect writes the topic."
    ),
]
OutputFormat = Annotated[
    Literal["json", "avro", "protobuf", "json-schema"],
    Meta(
        description="How results are written: json, or in a format of the schema registry, where their schema is"
        " registered at the start. Change it for sinks that ask for a schema; it needs schema_registry.url."
    ),
]
OutputSubject = Annotated[
    str,
    Meta(
        description='Subject of the results in the schema registry; "" means {output}-value. Set it where subjects'
        " are named in another way."
    ),
]
OutputSchemaId = Annotated[
    Literal["value", "header"],
    Meta(
        description="Where results name their schema: in front of the value, or by its GUID in the header"
        " __value_schema_id, which leaves the value bare. Set header if all who read the results look there."
    ),
]
AutoRegister = Annotated[
    bool,
    Meta(
        description="Register the schema of the results at the start. Set false where only others may: it must be"
        " there then."
    ),
]
