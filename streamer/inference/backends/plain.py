"""A class's outputs as JSON, strictly: what JSON can't say is one record's failure, not another value in its place.

A JSON encoder writes NaN as null, bytes as base64, a set as a list and a key that is a number as its text: each of
these would be published as an answer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure
from streamer.inference.model import NON_FINITE, NonFinite
from streamer.model import VectorEncoding

if TYPE_CHECKING:
    from streamer.inference.backends.vectors import Vector


class _NonFiniteError(Exception):
    """A number is NaN or infinite."""


class _WrongTypeError(Exception):
    """A value is of a type that JSON has not. `str()` says what it is, without a value or a key; `place` where it
    stands, as indexes from 0 into objects and lists: the name of a key may come from the text."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.place: list[int] = []


def answers_of(outputs: Sequence[Any], encoding: VectorEncoding = "float") -> list[Answer | NonFinite | DataFailure]:
    """Each output's JSON, as `answer_of` says. The `vector` of all is written together where they are arrays, or where
    `encoding` makes base64 of them."""
    if encoding == "float" and not any(
        isinstance(one, dict) and hasattr(one.get("vector"), "dtype") for one in outputs
    ):
        return [answer_of(output) for output in outputs]
    from streamer.inference.backends.vectors import vectors_of  # numpy, which most classes of one's own do without

    vectors = vectors_of(outputs, encoding)
    return [answer_of(output, vectors.get(index)) for index, output in enumerate(outputs)]


def answer_of(output: Any, vector: Vector | None = None) -> Answer | NonFinite | DataFailure:
    """The output's JSON, NON_FINITE where a number in it is not finite, or why it can't be written.

    JSON objects, lists, strings, numbers, booleans and null; tuples, arrays and their scalars (`tolist`),
    dataclasses and msgspec's structs in it are written as what they hold. `vector` is its field of this name, written.
    """
    if not isinstance(output, dict):
        return _failure(f"predict gave {_name(output)} for this text, not a dict")
    try:
        if vector is None:
            plain = _plain(output)
            return Answer(msgspec.json.encode(plain), measures=_measures(plain))
        if not vector.finite:
            return NON_FINITE
        plain = _plain({**output, "vector": None, **vector.beside})
        plain["vector"] = vector.written
        return Answer(msgspec.json.encode(plain), measures=vector.measures)
    except _NonFiniteError:
        return NON_FINITE
    except _WrongTypeError as error:
        place = "".join(f"[{index}]" for index in error.place)
        return _failure(f"predict gave {error} at output{place} for this text (keys and items are counted from 0)")
    except RecursionError:
        return _failure("predict gave an output for this text that is nested too deeply, or holds itself")
    except Exception as error:  # what an object's own attributes raise, or a string with half a surrogate pair
        return _failure(f"predict gave an output for this text that can't be written: {_name(error)}")


def _measures(output: dict[str, Any]) -> bytes:
    if "scores" not in output and "vector" not in output:
        return b""
    from streamer.inference.tasks.measuring import of_output  # numpy, which most classes of one's own do without

    return of_output(output)


def _failure(message: str) -> DataFailure:
    return DataFailure(Code.INFER_EXCEPTION, message, "TypeError")


def _plain(value: Any) -> Any:
    """In JSON's own types."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NonFiniteError
        return float(value)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise _WrongTypeError("an int of more than 64 bits")
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return dict(zip(map(_key, value), _items(value.values()), strict=True))
    if isinstance(value, list | tuple):
        return _items(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        held = ((name, getattr(value, attribute)) for name, attribute in names)
        return _plain({name: inner for name, inner in held if inner is not msgspec.UNSET})
    listed = value.tolist() if hasattr(value, "tolist") and kind is not memoryview else value
    if type(listed) is kind:
        raise _WrongTypeError(_name(value))
    return _plain(listed)


def _items(values: Iterable[Any]) -> list[Any]:
    # Where a number is not finite, neither is the sum.
    if isinstance(values, list) and set(map(type, values)) == {float} and math.isfinite(sum(values)):
        return values
    plain: list[Any] = []
    for value in values:
        try:
            plain.append(_plain(value))
        except _WrongTypeError as error:
            error.place.insert(0, len(plain))
            raise
    return plain


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise _WrongTypeError(f"a key of type {_name(key)}")
    return str.__str__(key)


def _name(value: object) -> str:
    return type(value).__qualname__
