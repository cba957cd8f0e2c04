"""The schema of a pipeline's results for a schema registry, made of the types of its task's output.

In Avro all fields that may be missing are null, a metadata object is its JSON text, and so is an output whose type is
not known, as of a task of the operator's own. Protobuf's messages are made of the Avro record (`result_proto`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType, defstruct, inspect

from streamer.core.results.outputs import OUTPUTS, Base64Embedding, Embedding

NAME: Final = "Result"
NAMESPACE: Final = "streamer"

_PLAIN: Final[dict[type, str]] = {
    inspect.StrType: "string",
    inspect.LiteralType: "string",
    inspect.IntType: "long",
    inspect.FloatType: "double",
    inspect.BoolType: "boolean",
}


FIELDS: Final = ("id", "pipeline", "task", "model", "output", "cached", "truncated", "source", "metadata")
"""Those of a result, in their order."""


class Model(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    revision: str


class Source(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def json_schema_of(task: str) -> dict[str, Any]:
    """JSON Schema 2020-12 of a task's results."""
    kinds: tuple[Any, ...] = OUTPUTS.get(task, (dict[str, Any],))
    schema = msgspec.json.schema(_result(dict[str, Any]))
    definitions = schema["$defs"]
    forms = []
    for kind in kinds:
        output = msgspec.json.schema(kind)
        definitions |= output.pop("$defs", {})
        forms.append(output)
    definitions[NAME]["properties"]["output"] = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def avro_schema_of(task: str, encoding: str = "float") -> dict[str, Any]:
    """The Avro record of a task's results; `encoding` is how its vectors are written, as lists or in base64."""
    result: Any = inspect.type_info(_result(str))
    record = _record([result], NAME, set())
    kinds = OUTPUTS.get(task)
    if kinds is not None and Base64Embedding in kinds:
        kinds = (Base64Embedding if encoding == "base64" else Embedding,)
    if kinds is not None:
        output = _record([inspect.type_info(kind) for kind in kinds], "Output", {NAME, "Model", "Source"})
        next(field for field in record["fields"] if field["name"] == "output")["type"] = output
    return {"namespace": NAMESPACE, **record}


def check_of(task: str) -> Callable[[bytes], object]:
    """Holds a result's JSON to the task's schema. Raises msgspec.ValidationError."""
    first, *others = [msgspec.json.Decoder(_result(kind)).decode for kind in OUTPUTS.get(task, (dict[str, Any],))]

    def check(value: bytes) -> object:
        try:
            return first(value)
        except msgspec.ValidationError:
            if not others:
                raise
            return others[0](value)

    return check


def to_avro(task: str, value: bytes) -> dict[str, Any]:
    """A result's JSON as the record that is to be written."""
    told: dict[str, Any] = msgspec.json.decode(value, type=_RAW)
    made = {name: msgspec.json.decode(raw) for name, raw in told.items() if name not in ("output", "metadata")}
    output = told["output"]
    made["output"] = msgspec.json.decode(output) if task in OUTPUTS else bytes(output).decode()
    if "metadata" in told:
        made["metadata"] = bytes(told["metadata"]).decode()
    return made


def from_avro(record: bytes) -> bytes:
    """The result's JSON, of an Avro record that was opened as JSON. Raises ValueError where that is no result."""
    told = parse_json_texts(record)
    if isinstance(told["output"], dict):
        told["output"] = as_it_was(told["task"], _without_null(told["output"]))
    return msgspec.json.encode(told)


def parse_json_texts(record: bytes) -> dict[str, Any]:
    """A result whose metadata and unknown output are JSON text, with these as they were. Raises ValueError."""
    told = msgspec.json.decode(record)
    if not isinstance(told, dict) or not isinstance(told.get("task"), str) or "output" not in told:
        raise ValueError("no result")
    for name in ("output", "metadata"):
        if isinstance(told.get(name), str):
            told[name] = Raw(told[name].encode())
    if told.get("metadata") is None:
        told.pop("metadata", None)
    return told


_RAW: Final = dict[str, Raw]


def _without_null(value: Any) -> Any:
    """Without the fields that were missing."""
    if isinstance(value, list):
        return [_without_null(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _without_null(one) for name, one in value.items() if one is not None}


def as_it_was(task: str, output: dict[str, Any]) -> dict[str, Any]:
    """An output with those nulls and empty lists again that one of the task's forms asks for."""
    for kind in OUTPUTS.get(task, ()):
        required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
        missing: Any
        for missing in (None, []):
            whole = {**dict.fromkeys(required, missing), **output}
            try:
                msgspec.convert(whole, kind)
            except msgspec.ValidationError:
                continue
            return whole
    return output


def _result(output: Any) -> type[msgspec.Struct]:
    metadata: Any = dict[str, Any] if output is not str else str
    types = (str, str, str, Model, output, bool, bool, Source)
    return defstruct(
        NAME,
        [*zip(FIELDS, types, strict=False), ("metadata", metadata | UnsetType, UNSET)],
        forbid_unknown_fields=True,
    )


def _record(kinds: list[Any], name: str, named: set[str]) -> dict[str, Any]:
    """One record for any of these structs: a field that not all of them have, or that may be missing, is nullable."""
    named.add(name)
    fields: dict[str, list[Any]] = {}
    for kind in kinds:
        for field in kind.fields:
            fields.setdefault(field.encode_name, []).append(field)
    made = []
    for field_name, found in fields.items():
        types = [one.type for one in found if not isinstance(one.type, inspect.NoneType)]
        type_ = _type(types[0], named)
        nullable = any(isinstance(one, inspect.UnionType) for one in types)
        if nullable or len(found) < len(kinds) or len(types) < len(found) or not all(one.required for one in found):
            made.append({"name": field_name, "type": ["null", type_], "default": None})
        else:
            made.append({"name": field_name, "type": type_})
    return {"type": "record", "name": name, "fields": made}


def _type(kind: Any, named: set[str]) -> Any:
    """An Avro type, without the null that may stand beside it."""
    match kind:
        case inspect.Metadata():
            return _type(kind.type, named)
        case inspect.UnionType():
            (one,) = (each for each in kind.types if not isinstance(each, inspect.NoneType))
            return _type(one, named)
        case inspect.ListType():
            return {"type": "array", "items": _type(kind.item_type, named)}
        case inspect.StructType():
            name = kind.cls.__name__
            return name if name in named else _record([kind], name, named)
    return _PLAIN[type(kind)]
