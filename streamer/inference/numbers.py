"""Numbers of a network's output as JSON writes them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Nine significant decimal digits name every float32 (IEEE 754: ceil(1 + 24·log10 2)).
_DIGITS = 9


def float32_lists(rows: npt.NDArray[np.float32]) -> list[list[float]]:
    """Rows as Python floats whose shortest decimal form has at most nine significant digits: they read back to the
    same float32 and take half the bytes that the digits of the same number as a double take."""
    exact = rows.astype(np.float64)
    magnitude = np.abs(exact)
    exponent = np.floor(np.log10(magnitude, where=magnitude > 0, out=np.zeros_like(magnitude)))
    scale = np.power(10.0, _DIGITS - 1 - exponent)
    rounded: list[list[float]] = (np.rint(exact * scale) / scale).tolist()
    return rounded
