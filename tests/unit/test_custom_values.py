"""What a `python:` class gives: JSON as it stands, or that text's failure alone, which quotes nothing."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import json
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.backends.plain import answer_of, answers_of
from streamer.inference.model import NON_FINITE
from streamer.inference.models.custom import CustomModel
from streamer.inference.spec import WorkerSpec
from streamer.inference.worker.forwarder import Forwarder, WorkerFailureError
from streamer.model import VectorEncoding
from tests.unit.tasks_kit import outcomes

NAN, INFINITY = float("nan"), float("inf")


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


class Renamed(msgspec.Struct, rename="camel"):
    the_value: Any
    absent: Any = msgspec.UNSET


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Pair = collections.namedtuple("Pair", "first second")


@pytest.mark.parametrize(
    ("output", "written"),
    [
        ({}, {}),
        ({"a": [1, -2.5, "é", None, True, {"b": []}]}, {"a": [1, -2.5, "é", None, True, {"b": []}]}),
        ({"a": (1, (2,))}, {"a": [1, [2]]}),
        ({"a": Pair(1, 2)}, {"a": [1, 2]}),
        (
            {"a": np.float32(0.5), "b": np.int64(7), "c": np.bool_(True), "d": np.str_("x")},
            {"a": 0.5, "b": 7, "c": True, "d": "x"},
        ),
        ({"a": np.arange(4).reshape(2, 2), "b": np.array(1.5)}, {"a": [[0, 1], [2, 3]], "b": 1.5}),
        ({"a": torch.tensor([1.5, 2]), "b": torch.tensor(3)}, {"a": [1.5, 2.0], "b": 3}),
        ({"a": [Point(1, [Point(2)])]}, {"a": [{"x": 1, "y": [{"x": 2, "y": 0}]}]}),
        ({"a": Renamed(Point(np.float64(1)))}, {"a": {"theValue": {"x": 1.0, "y": 0}}}),
        ({Colour.RED: Colour.RED, "b": Level.HIGH}, {"red": "red", "b": 3}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({"a": 2**64 - 1, "b": -(2**63)}, {"a": 2**64 - 1, "b": -(2**63)}),
    ],
)
def test_what_json_can_say_is_written(output: Any, written: Any) -> None:
    """Arrays, their scalars, dataclasses and structs as what they hold, at any depth."""
    answer = answer_of(output)
    assert isinstance(answer, Answer)
    assert json.loads(answer.output) == written


@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY, np.float32("nan"), np.float16("inf"), torch.tensor(NAN)])
@pytest.mark.parametrize(
    "around",
    [
        lambda number: {"a": number},
        lambda number: {"a": [1.0, number]},
        lambda number: {"a": {"b": (0, (number,))}},
        lambda number: {"a": Point(1, number)},
        lambda number: {"a": [Renamed(Point(number))]},
        lambda number: {"a": np.array([1, float(number)])},
        lambda number: {"a": torch.tensor([[1, float(number)]])},
        lambda number: {"a": np.array([{"x": [number]}], dtype=object)},
    ],
)
def test_a_number_that_is_not_finite_is_found_anywhere(number: Any, around: Any) -> None:
    """JSON's encoder would write null in its place."""
    assert answer_of(around(number)) is NON_FINITE


ROW = [0.1, -3e-7, 0.0, 123.456]


@pytest.mark.parametrize(
    ("vector", "dtype"),
    [
        (np.array(ROW, np.float32), "float32"),
        (np.array(ROW, ">f4"), "float32"),
        (np.array(ROW, np.float16), "float16"),
        (np.array([ROW, ROW], np.float32).T[:, 1], "float32"),
        (np.array(ROW), "float32"),
        (ROW, "float32"),
        (np.array([1, -127], np.int8), "int8"),
        (torch.tensor(ROW, requires_grad=True), "float32"),
        (torch.tensor(ROW, dtype=torch.bfloat16), "float32"),
    ],
)
def test_a_vector_is_written_in_base64(vector: Any, dtype: str) -> None:
    """Little endian, in place; the class's other fields stay, and the measures are those of the list."""
    others = {"a": [1.5], "dimensions": "?"}
    (answer,) = answers_of([{"vector": vector, **others}], "base64")
    (listed,) = answers_of([{"vector": vector, **others}])
    assert isinstance(answer, Answer) and isinstance(listed, Answer)
    numbers = np.array(json.loads(listed.output)["vector"], dtype)
    written = base64.b64encode(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()).decode()
    assert json.loads(answer.output) == {"vector": written, "a": [1.5], "dimensions": len(numbers), "dtype": dtype}
    assert answer.measures == (listed.measures or answer.measures) != b""


def test_arrays_as_lists_are_of_as_few_digits_as_name_them() -> None:
    """Those of a float16 read back to the same, too; a float64 keeps all of its digits."""
    rows = [np.array(ROW, dtype) for dtype in (np.float32, np.float16, np.float64)]
    found = [json.loads(one.output)["vector"] for one in answers_of([{"vector": row} for row in rows])]  # type: ignore[union-attr]
    for row, numbers in zip(rows, found, strict=True):
        assert np.array(numbers, row.dtype).tolist() == row.tolist()
    assert [found[0][0], found[1][0], found[2]] == [0.1000000015, 0.099976, ROW]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_vector_that_is_not_finite_fails_alone(encoding: VectorEncoding) -> None:
    """Also one of float64 that is too large for a float32; and what is no row of numbers is written as it is."""
    given: list[Any] = [ROW, [1.0, NAN], [INFINITY, 0.0], ROW, [[1.0]], "x", [], [None]]
    arrays = [{"vector": np.array(one, np.float32) if one in (ROW, *given[1:3]) else one} for one in given]
    found = answers_of([*arrays, {"vector": {1}}, {}, None], encoding)
    kinds = [type(one).__name__ for one in found]
    assert kinds == ["Answer", "NonFinite", "NonFinite", *["Answer"] * 5, "DataFailure", "Answer", "DataFailure"]
    assert [json.loads(one.output)["vector"] for one in found[4:8]] == given[4:]  # type: ignore[union-attr]
    assert answers_of([{"vector": np.array([1e300])}], "base64") == [NON_FINITE]


def looped() -> dict[str, Any]:
    output: dict[str, Any] = {}
    output["a"] = [output]
    return output


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (None, "NoneType for this text, not a dict"),
        ([{"canary": 1}], "list for this text"),
        (Point(1), "Point for this text"),
        ("canary", "str for this text"),
        ({"canary": b"canary"}, "bytes at output[0]"),
        ({"a": 1, "canary": [0, {"canary"}]}, "set at output[1][1]"),
        ({"canary": {"canary": [Point(0, frozenset())]}}, "frozenset at output[0][0][0][1]"),
        ({"a": {1: "canary"}}, "a key of type int at output[0]"),
        ({None: "canary"}, "a key of type NoneType at output"),
        ({"a": object()}, "object at output[0]"),
        ({"a": Point}, "type at output[0]"),
        ({"a": decimal.Decimal("1.5")}, "Decimal at output[0]"),
        ({"a": datetime.date(2026, 1, 1)}, "date at output[0]"),
        ({"a": np.array(["2026-01-01"], dtype="datetime64[D]")}, "date at output[0][0]"),
        ({"a": 1 + 2j}, "complex at output[0]"),
        ({"a": memoryview(b"canary")}, "memoryview at output[0]"),
        ({"a": 2**64}, "an int of more than 64 bits at output[0]"),
        ({"a": (one for one in "canary")}, "generator at output[0]"),
        ({"a": "\ud800canary"}, "UnicodeEncodeError"),
        (looped(), "holds itself"),
    ],
)
def test_what_json_can_not_say_is_named_by_type_and_place(output: Any, words: str) -> None:
    """Neither a value nor a key, which may be the text's."""
    failure = answer_of(output)
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.INFER_EXCEPTION and words in failure.message
    assert "canary" not in failure.message + failure.exception


class Erring:
    """Does what the text says; the probe is answered as well as its option says."""

    files: tuple[str, ...] = ()
    probe = "probe"
    encoding = "float"
    outputs: dict[str, Any] = {
        "fine": {"n": 1},
        "nan": {"n": [NAN]},
        "set": {"n": [1, {2}]},
        "none": None,
        "vector": {"vector": np.ones(1, np.float32)},
        "loop": looped(),
    }

    def __init__(self, options: dict[str, Any]) -> None:
        self.asked = 0
        self.probed = {"n": {1}} if options.get("bad") else {"n": 0}

    def predict(self, inputs: list[Any]) -> list[Any]:
        """See the class."""
        self.asked += 1
        return [self.outputs.get(one.text, self.probed) for one in inputs]


def model(**options: Any) -> CustomModel:
    return CustomModel(WorkerSpec("p", "count", f"python:{__name__}:Erring", options=options), __name__, "Erring")


def test_a_class_says_how_its_vectors_are_written() -> None:
    """By an attribute, which may only be what we know, and is part of what identifies it."""
    revision = model().card.revision
    Erring.encoding = "base64"
    try:
        assert model().card.revision != revision
        assert outcomes(model(), ["vector"]) == [{"vector": "AACAPw==", "dimensions": 1, "dtype": "float32"}]
        Erring.encoding = "hex"
        with pytest.raises(ModelError, match="its encoding is 'hex'"):
            model()
    finally:
        Erring.encoding = "float"


def test_a_wrong_value_is_its_records_failure_alone() -> None:
    """No neighbour fails or is asked again, but for what NaN asks for: alone, and the probe."""
    served = model()
    found = outcomes(served, ["fine", "set", "fine", "none", "loop", "fine"])
    codes = [one.code if isinstance(one, DataFailure) else one for one in found]
    wrong = Code.INFER_EXCEPTION
    assert codes == [{"n": 1}, wrong, {"n": 1}, wrong, wrong, {"n": 1}]
    assert served._predictor.asked == 1
    found = outcomes(served, ["fine", "nan", "set", "fine"])
    codes = [one.code if isinstance(one, DataFailure) else one for one in found]
    assert codes == [{"n": 1}, Code.INFER_NAN, wrong, {"n": 1}]


def test_wrong_values_alone_are_failures_too() -> None:
    """Also where nothing else is in the batch."""
    found = outcomes(model(), ["set"] * 40)
    assert [one.code for one in found if isinstance(one, DataFailure)] == [Code.INFER_EXCEPTION] * 40


def test_a_probe_with_a_wrong_value_is_the_models_failure() -> None:
    """A class that can't write its known answer serves nothing, and is told why."""
    with pytest.raises(WorkerFailureError, match=r"fails for its probe: predict gave set at output\[0\]"):
        Forwarder(model(bad=True), print).run_probe()


@pytest.mark.parametrize("given", [None, {"n": 1}, "n", iter([{"n": 1}])])
def test_what_is_no_list_of_outputs_is_named(given: Any) -> None:
    """A dict has a length, too."""
    served = model()
    served._predictor.predict = lambda inputs: given
    with pytest.raises(WorkerFailureError, match=rf"predict gave {type(given).__name__}, not a list"):
        Forwarder(served, print).run_probe()


def test_another_number_of_outputs_fails_the_batch() -> None:
    """Nobody knows which belongs to which."""
    served = model()
    served._predictor.predict = lambda inputs: [{"n": 1}]
    encoded = [served.encode([text], None, None)[0] for text in ("a", "b")]
    with pytest.raises(ModelError, match="1 outputs for 2 inputs"):
        served.forward(encoded)  # type: ignore[arg-type]
