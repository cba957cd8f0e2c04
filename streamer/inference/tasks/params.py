"""An event's `params`, checked against a task's struct. Failures name the param and what it takes, never its value."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec

from streamer.errors import Code, DataFailure
from streamer.inference.model import unknown_param

_Params = TypeVar("_Params", bound=msgspec.Struct)
# The end of msgspec's messages: where in the object it stood. The rest of a message may quote a value.
_PLACE = re.compile(r" - at `\$\.(\w+)[^`]*`$")
_MISSING = re.compile(r"^Object missing required field `(\w+)`$")

Text = Annotated[str, msgspec.Meta(min_length=1)]
Texts = Annotated[list[Text], msgspec.Meta(min_length=1, description="a list of one or more strings, none empty")]


class NoParams(msgspec.Struct, frozen=True):
    """Of tasks that take none."""


def read_params(kind: type[_Params], params: dict[str, Any] | None, task: str) -> _Params | DataFailure:
    """`params` as the task's struct; each of its fields has a description that says what it takes."""
    descriptions = _descriptions(kind)
    if params and (failure := unknown_param(params, descriptions.keys(), task)) is not None:
        return failure
    try:
        return msgspec.convert(params or {}, kind)
    except msgspec.ValidationError as error:
        message = str(error)
        if missing := _MISSING.search(message):
            name = missing[1]
            return DataFailure(Code.VALIDATE_PARAMS, f"task {task} needs the param {name!r}: {descriptions[name]}")
        name = place[1] if (place := _PLACE.search(message)) else ""
        wanted = f"param {name!r} of task {task} must be {descriptions.get(name, 'of another type')}"
        return DataFailure(Code.VALIDATE_PARAMS, wanted)


@cache
def _descriptions(kind: type[msgspec.Struct]) -> dict[str, str]:
    fields = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return {name: _description(field) for name, field in fields.items()}


def _description(field: dict[str, Any]) -> str:
    """Of the field, or of the one of its types that has one."""
    return next((one["description"] for one in (field, *field.get("anyOf", ())) if "description" in one), "")
