"""Numbers of a network's output as JSON writes them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# Nine significant decimal digits name every float32 (IEEE 754: ceil(1 + 24·log10 2)).
_DIGITS = 9
# By the exponent of frexp, from -148 (the least float32) to 128: the power of ten that moves nine digits, of some
# numbers ten, before the point.
_LEAST_EXPONENT = -148
_SCALES = np.array(
    [10.0 ** (_DIGITS - 1 - math.floor((exponent - 1) * math.log10(2))) for exponent in range(_LEAST_EXPONENT, 129)]
)


def float32_lists(rows: npt.NDArray[np.float32]) -> list[list[float]]:
    """Rows as Python floats with a decimal form of nine or ten significant digits: they read back to the same
    float32, and take half the bytes that the digits of the same number as a double take."""
    _, exponents = np.frexp(rows)
    scales = _SCALES[exponents - _LEAST_EXPONENT]
    rounded: list[list[float]] = (np.rint(rows * scales) / scales).tolist()
    return rounded
