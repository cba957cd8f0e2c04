"""The Protobuf messages of a task's results, made of its Avro record, so that both have the same fields."""

from __future__ import annotations

import re
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

from streamer.core.results.outputs import OUTPUTS
from streamer.core.results.proto import EMPTY, ITEMS, LONG, NUMBERS
from streamer.core.results.schema import NAME, NAMESPACE, avro_schema_of

FIRST_MESSAGE: Final = b"\0"
"""What stands between a schema's id and the data: the place of the message in its file."""

_PLAIN: Final = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "long": FieldDescriptorProto.TYPE_INT32,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "boolean": FieldDescriptorProto.TYPE_BOOL,
}

_SPECIAL: Final = {
    **{(name, "long"): FieldDescriptorProto.TYPE_INT64 for name in LONG},
    ("vector", "double"): FieldDescriptorProto.TYPE_FLOAT,  # as models compute them
    ("vector", "string"): FieldDescriptorProto.TYPE_BYTES,
}


def file_of(task: str, encoding: str) -> Any:
    """The file of a task's messages. `encoding` is how its vectors are written, as lists or in base64.

    Each task has a package of its own, so that a subscriber can compile several into one program."""
    package = f"{NAMESPACE}.{re.sub(r'[^a-z0-9]', '_', task) if task in OUTPUTS else 'custom'}"
    file = FileDescriptorProto(name=f"{package.replace('.', '/')}.proto", package=package, syntax="proto3")
    result = file.message_type.add()
    _fill(result, avro_schema_of(task, encoding), result, f".{package}.{NAME}")
    return file


def message_of(file: Any) -> Any:
    """The class of the results that a file describes."""
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{NAME}"))


def _fill(message: Any, record: dict[str, Any], result: Any, scope: str) -> None:
    """The fields of an Avro record; the messages that they need are put into `result`, whose full name is `scope`."""
    message.name = record["name"]
    own = [field["name"] for field in record["fields"]]
    says = [{"name": EMPTY[name], "type": ["null", "boolean"]} for name in own if name in EMPTY]
    for field in [*record["fields"], *says]:
        name, kind = field["name"], field["type"]
        made = message.field.add(name=name, number=NUMBERS[name], label=FieldDescriptorProto.LABEL_OPTIONAL)
        if nullable := isinstance(kind, list):
            kind = kind[1]
        if items := _items(kind):
            made.label = FieldDescriptorProto.LABEL_REPEATED
            kind, nullable = items, False
            if inner := _items(items):
                kind = {"name": f"{inner['name']}List", "fields": [{"name": ITEMS, "type": items}]}
        if isinstance(kind, dict):
            _fill(result.nested_type.add(), kind, result, scope)
            kind = kind["name"]
        if kind not in _PLAIN:
            made.type, made.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{scope}.{kind}"
            continue
        made.type = _SPECIAL.get((name, kind), _PLAIN[kind])
        if nullable:
            made.proto3_optional, made.oneof_index = True, len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")


def _items(kind: Any) -> Any:
    """What an array holds; None for any other type."""
    return kind["items"] if isinstance(kind, dict) and kind.get("type") == "array" else None
