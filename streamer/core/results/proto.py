"""Results as Protobuf messages: the number of each field, and what becomes of what JSON has and Protobuf lacks.

An optional list is an empty one where it is missing, and a field beside it says of one that may be empty that it is
there. A list in a list is a message with `items`, a vector in base64 is bytes. As in Avro, metadata and an output whose
type is not known are their JSON text.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from streamer.core.results.schema import FIELDS, Source, as_it_was, parse_json_texts, to_avro

ITEMS: Final = "items"

_NAMES: Final = (
    # 1 to 15 take one byte: what is there many times in one result.
    *("label", "score", "start", "end", "text", "token", "token_id", "log_likelihood", ITEMS, "answer", "vector"),
    *("id", "output", "source", "model"),
    *("pipeline", "task", "cached", "truncated", "metadata"),
    *("name", "revision", "topic", "partition", "offset", "timestamp_ms"),
    *("scores", "windows", "entities", "dimensions", "scale", "dtype", "ranking", "labels", "answers", "candidates"),
    *("source_tokens", "output_tokens", "finish_reason", "prompt_tokens", "completion_tokens"),
    *("perplexity", "tokens", "per_token", "reason", "per_token_is_empty"),
)
NUMBERS: Final = {name: number for number, name in enumerate(_NAMES, 1)}
"""A name has one number in all messages, for good: new ones go to the end of the names, and none is ever taken out."""

EMPTY: Final = {"per_token": "per_token_is_empty"}
"""The optional lists that may be there and empty, each with the field that then is true."""

LONG: Final = ("offset", "timestamp_ms")
"""The integers of 64 bits, which JSON made of Protobuf holds as strings."""


def to_proto(task: str, value: bytes) -> dict[str, Any]:
    """A result's JSON as the fields of the message that is to be written. Raises ValueError."""
    made = to_avro(task, value)
    output = made["output"]
    if isinstance(output, dict):
        for name, part in list(output.items()):
            if part == [] and name in EMPTY:
                output[EMPTY[name]] = True
            elif name == "vector" and isinstance(part, str):
                output[name] = base64.b64decode(part)
            elif isinstance(part, list) and part and isinstance(part[0], list):
                output[name] = [{ITEMS: one} for one in part]
    return made


def from_proto(record: bytes) -> bytes:
    """The result's JSON, of a message that was opened as JSON. Raises ValueError where that is no result."""
    told = parse_json_texts(record)
    told = _ordered(told, FIELDS)
    source, output = told.get("source"), told["output"]
    if isinstance(source, dict):
        numbers = {name: int(source[name]) for name in LONG if name in source}
        told["source"] = _ordered(source | numbers, Source.__struct_fields__)
    if isinstance(output, dict):
        empty = {name for name, says in EMPTY.items() if output.pop(says, False)}
        given = {name: _lists(part) for name, part in output.items() if part != [] or name in empty}
        told["output"] = as_it_was(told["task"], given)
    return msgspec.json.encode(told)


def _ordered(given: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """In the order of JSON's fields, not of Protobuf's numbers."""
    return {name: given[name] for name in names if name in given} | given


def _lists(part: Any) -> Any:
    """With lists in lists as they were."""
    if not isinstance(part, list):
        return part
    return [one[ITEMS] if isinstance(one, dict) and one.keys() == {ITEMS} else one for one in part]
