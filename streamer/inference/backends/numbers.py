"""Numbers of a network's output as JSON writes them."""

from __future__ import annotations

import binascii
import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

# So many significant decimal digits name every float32, and every float16 (IEEE 754: ceil(1 + 24·log10 2), with 11).
_DIGITS = 9
FLOAT16_DIGITS = 5
# By the exponent of frexp, from -148 (the least float32) to 128: the power of ten that moves nine digits, of some
# numbers ten, before the point.
_LEAST_EXPONENT = -148
_SCALES = np.array(
    [10.0 ** (_DIGITS - 1 - math.floor((exponent - 1) * math.log10(2))) for exponent in range(_LEAST_EXPONENT, 129)]
)


def float32_lists(rows: npt.NDArray[np.float32], digits: int = _DIGITS) -> list[list[float]]:
    """Rows as Python floats with a decimal form of nine or ten significant digits: they read back to the same
    float32, and take half the bytes that the digits of the same number as a double take. With `FLOAT16_DIGITS` rows of
    numbers that are float16 read back to the same float16."""
    _, exponents = np.frexp(rows)
    scales = _SCALES[exponents - _LEAST_EXPONENT] / 10.0 ** (_DIGITS - digits)
    rounded: list[list[float]] = (np.rint(rows * scales) / scales).tolist()
    return rounded


def base64_strings(rows: npt.NDArray[Any]) -> list[msgspec.Raw]:
    """Each row as a JSON string: its bytes, little endian, in base64. 1.3 µs for 384 numbers; no number becomes an
    object of Python's."""
    little = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
    encode, content, size_bytes = binascii.b2a_base64, memoryview(little.tobytes()), little[0].nbytes
    return [
        msgspec.Raw(b'"%b"' % encode(content[first : first + size_bytes], newline=False))
        for first in range(0, len(content), size_bytes)
    ]
