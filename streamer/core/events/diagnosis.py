"""Why a value is not an event: the slow reading that follows a refusal, and never quotes what it reads."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from streamer.core.events.framed import is_framed
from streamer.errors import Code, DataFailure

MAX_ID_CHARS = 256

_BOM = b"\xef\xbb\xbf"
_MAX_INTEGER_DIGITS = 4_300  # more is a ValueError in Python, and refused by msgspec
_NOT_FINITE = float("inf")


def diagnose(value: bytes, where: str = "$") -> DataFailure:
    """The failure of a JSON value that could not be decoded as an event; `where` is its path in the record."""
    body = _parsed(value, where, ': send {"text": "..."}, or name the format in a content-type header')
    if isinstance(body, DataFailure):
        return body
    if not isinstance(body, dict):
        return DataFailure(
            Code.VALIDATE_TYPE,
            f'{where} is {_kind(body)}, not an object: send {{"text": "..."}}, or text/plain.',
        )
    return _diagnose_object(body, where)


def not_an_object(value: bytes, where: str = "$") -> DataFailure:
    """The failure of a value that could not be decoded as a JSON object of any shape."""
    body = _parsed(value, where, "")
    if isinstance(body, DataFailure):
        return body
    if not isinstance(body, dict):
        return DataFailure(Code.VALIDATE_TYPE, f"{where} is {_kind(body)}, not an object.")
    return DataFailure(Code.DECODE_JSON, f"{where} has {_SURROGATE}")


def _parsed(value: bytes, where: str, fix: str) -> Any:
    """The value as JSON, also with half a surrogate pair in it, or the failure of one that is none."""
    if value.startswith(_BOM):
        return DataFailure(
            Code.DECODE_JSON,
            "The value starts with a byte order mark: write UTF-8 without BOM.",
        )
    if is_framed(value):
        return DataFailure(
            Code.DECODE_JSON,
            "The value starts with a zero byte, as the serializers of a schema registry frame it (a zero, the schema's"
            " id, the data), be it Avro, Protobuf or JSON Schema: name the format as input_format of the pipeline, or"
            " send plain JSON.",
        )
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error.start)
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_integer)
    except RecursionError:
        return DataFailure(Code.DECODE_JSON, f"{where} is nested too deeply: send a flat object.")
    except json.JSONDecodeError as error:
        return DataFailure(
            Code.DECODE_JSON,
            f"{where} is not JSON from character {error.pos} on (of {len(text)}){fix}.",
        )
    except ValueError:
        return DataFailure(
            Code.DECODE_JSON,
            f"{where} has NaN or Infinity, which JSON does not know: send null.",
        )


def not_utf8(byte: int) -> DataFailure:
    """The failure of a value that is not UTF-8 from this byte on."""
    return DataFailure(
        Code.DECODE_UTF8,
        f"The value is not UTF-8 from byte {byte} on: encode it as UTF-8.",
    )


def _diagnose_object(body: dict[str, Any], where: str) -> DataFailure:
    text, pair, given_id = body.get("text"), body.get("text_pair"), body.get("id")
    params, metadata = body.get("params"), body.get("metadata")
    if "text" not in body:
        return DataFailure(Code.VALIDATE_TEXT, f"{where}.text is missing: it holds the text to read.")
    if not isinstance(text, str):
        return DataFailure(Code.VALIDATE_TEXT, f"{where}.text is {_kind(text)}, not a string.")
    if not text:
        return DataFailure(
            Code.VALIDATE_EMPTY_TEXT,
            f"{where}.text is an empty string: white space would be valid.",
        )
    if _has_lone_surrogate(text):
        return DataFailure(Code.VALIDATE_TEXT, f"{where}.text has {_SURROGATE}")
    if pair is not None and not isinstance(pair, str):
        return DataFailure(
            Code.VALIDATE_TEXT_PAIR,
            f"{where}.text_pair is {_kind(pair)}, not a string or null.",
        )
    if pair is not None and _has_lone_surrogate(pair):
        return DataFailure(Code.VALIDATE_TEXT_PAIR, f"{where}.text_pair has {_SURROGATE}")
    if isinstance(given_id, bool) or not isinstance(given_id, str | int | None):
        return DataFailure(
            Code.VALIDATE_ID,
            f"{where}.id is {_kind(given_id)}, not a string or an integer of 64 bits.",
        )
    if isinstance(given_id, str) and not 1 <= len(given_id) <= MAX_ID_CHARS:
        return DataFailure(
            Code.VALIDATE_ID,
            f"{where}.id has {len(given_id)} characters, not 1 to {MAX_ID_CHARS}.",
        )
    if isinstance(given_id, str) and _has_lone_surrogate(given_id):
        return DataFailure(Code.VALIDATE_ID, f"{where}.id has {_SURROGATE}")
    if params is not None and not isinstance(params, dict):
        return DataFailure(Code.VALIDATE_PARAMS, f"{where}.params is {_kind(params)}, not an object.")
    for field, content, code in (
        ("params", params, Code.VALIDATE_PARAMS),
        ("metadata", metadata, Code.VALIDATE_METADATA),
    ):
        if (fault := _fault_inside(content, numbers=field == "params")) is not None:
            return DataFailure(code, f"{where}.{field} has {fault}")
    return DataFailure(Code.DECODE_JSON, f"{where} has {_SURROGATE}")


_SURROGATE = "an escape of half a surrogate pair (\\ud800 to \\udfff): send both halves, or the character itself."


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _fault_inside(content: object, *, numbers: bool) -> str | None:
    """What is wrong inside a field of any JSON; `numbers`: also numbers beyond what a double or 4,300 digits hold."""
    try:
        json.dumps(content, ensure_ascii=False, allow_nan=not numbers).encode()
    except UnicodeEncodeError:
        return _SURROGATE
    except ValueError:
        return "a number that is out of range."
    except RecursionError:
        return "too deep a nesting."
    return None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else _NOT_FINITE


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError


def _kind(value: object) -> str:
    """The JSON name of a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
