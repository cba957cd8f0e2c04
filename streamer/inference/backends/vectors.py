"""The vectors of a class's outputs: those of a batch are written and measured together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streamer.core.vectors import FORMATS
from streamer.inference.backends.numbers import FLOAT16_DIGITS, base64_strings, float32_lists
from streamer.inference.tasks.measuring import of_vectors
from streamer.model import VectorEncoding

_NAMES: Final = {np.dtype(name): name for name in FORMATS}  # a dtype's own `name` is made anew each time
_DIGITS: Final = {"float32": (), "float16": (FLOAT16_DIGITS,)}


class Vector(NamedTuple):
    """The field `vector` of one output, as JSON's encoder takes it, and what belongs `beside` it."""

    written: Any
    beside: dict[str, Any]
    measures: bytes
    finite: bool


def vectors_of(outputs: Sequence[Any], encoding: VectorEncoding) -> dict[int, Vector]:
    """By their place: of the outputs whose `vector` is a row of numbers that is written in another way than other
    values. As lists those are arrays of float32 and float16, whose digits suffice to read the same numbers back; as
    base64 all rows of floats, those of more bits as float32, and arrays of int8."""
    written_as = FORMATS if encoding == "base64" else _DIGITS
    alike: defaultdict[tuple[str, int], dict[int, npt.NDArray[Any]]] = defaultdict(dict)
    for index, output in enumerate(outputs):
        if isinstance(output, dict) and (row := _row(output.get("vector"), encoding)) is not None:
            name = _NAMES.get(row.dtype, "")
            if name in written_as:
                alike[name, len(row)][index] = row
    found: dict[int, Vector] = {}
    for (dtype, length), group in alike.items():
        rows = np.stack(list(group.values()))
        finite = np.isfinite(rows).all(axis=1)
        known = np.where(finite[:, None], rows, 0)
        beside = {"dimensions": length, "dtype": dtype} if encoding == "base64" else {}
        written: Sequence[Any] = base64_strings(known) if beside else float32_lists(known, *_DIGITS[dtype])
        measured = of_vectors([0] * len(rows), known.astype(np.float32))
        for index, *own in zip(group, written, measured, finite, strict=True):
            found[index] = Vector(own[0], beside, own[1], bool(own[2]))
    return found


def _row(value: Any, encoding: VectorEncoding) -> npt.NDArray[Any] | None:
    """None for what is no row of numbers."""
    if isinstance(value, str | bytes | dict) or value is None:
        return None
    try:
        if hasattr(value, "detach"):  # a tensor of torch, which may hold what numpy has no type for
            value = value.detach().cpu()
            value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        row = np.asarray(value)
    except Exception:  # whatever an object of somebody else's raises: it is written as other values are
        return None
    if row.ndim != 1 or not len(row):
        return None
    if not row.dtype.isnative:
        row = row.astype(row.dtype.newbyteorder("="))
    if encoding == "base64" and row.dtype.kind == "f" and row.dtype not in _NAMES:
        with np.errstate(over="ignore"):  # what is too large for a float32 is not finite then
            row = row.astype(np.float32)
    return row
