"""The fields that say how values are written, for a pipeline to have: each with when to change it."""

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
