"""Types of fields and options in words for people: what a value must be."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import inspect


def kind_of(type_: Any) -> str:
    """What a value of this type must be, e.g. `a whole number from 1 to 1000`; None, where it may be that, aside. What
    the type says of itself wins."""
    return _choice(type_) or _words(inspect.type_info(type_))


def kind_of_field(field: msgspec.structs.FieldInfo) -> str:
    """The same of a field whose description says what it is for."""
    info = inspect.type_info(field.type)
    if not isinstance(info, inspect.Metadata):
        return _choice(field.type) or _words(info)
    return str((info.extra or {}).get("kind") or _choice(field.type) or _words(info.type))


def kind(text: str) -> msgspec.Meta:
    """Says what a value must be, of types whose own words are a pattern."""
    return msgspec.Meta(extra={"kind": text})


def _choice(type_: Any) -> str:
    """The values of a type that has a few, in the order in which they are written."""
    if get_origin(type_) is Literal:
        return f"one of {', '.join(map(json.dumps, get_args(type_)))}"
    return next(filter(None, map(_choice, get_args(type_))), "")


def _words(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=schema):
            return str((schema or {}).get("description") or _words(inner))
        case inspect.UnionType(types):
            return next(filter(None, map(_words, types)), "")
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "a string"
        case inspect.ListType() | inspect.VarTupleType():
            return "a list of strings"
        case inspect.DictType():
            return "a table"
        case inspect.IntType():
            return f"a whole number{_bounds(info)}"
        case inspect.FloatType():
            return f"a number{_bounds(info)}"
    return ""


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    least = info.ge if info.gt is None else info.gt
    if least is None:
        return ""
    if info.le is None:
        return f" of at least {least}" if info.gt is None else f" above {least}"
    return f" from {least} to {info.le}" if info.gt is None else f" above {least}, up to {info.le}"
