"""The leading direction: how bins move together from one hour to the next, as when the mix of texts wanders.

A bin at a time such a move is small, and all bins together would make it look impossible. So it is measured for
itself, by how far it went in the baseline, and taken out of the test of all bins.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from streamer.core.health.drift.spread import COMMON, GROUPS, Row, Spread, dispersion, grouped, spreads_of

LEAST_SHARE = 0.02
"""The least share of a bin that takes part: a rarer one has too few records in a window to move like a normal
variable."""

LEAST_EXPECTED = 5.0
BEYOND_CHANCE = 1.3
"""Times the largest variance that independent bins have in any direction (by Marchenko and Pastur)."""

_ROUNDS = 20
_DIGITS = 4


class Leading(msgspec.Struct, array_like=True):
    """A direction of length 1 over the bins, 0 for those that take no part; `scales` are the bins' own units in it,
    and `spreads` how far windows and groups of them went along it. `independence` is 1 where bins move each for itself
    in all other directions, and the less the more they move together."""

    direction: list[float]
    scales: list[float]
    spreads: list[Spread]
    independence: float = 1.0

    @staticmethod
    def of(
        rows: Sequence[Row], expected: Sequence[float], counts: Sequence[float], spreads: Sequence[Spread]
    ) -> Leading | None:
        """Learn it from the largest groups of windows; None where too few bins are common to move together, and where
        groups lie no farther apart in any direction than chance alone would bring them."""
        variance = spreads[0].variance
        scales = [
            math.sqrt((1 - share) / variance[at])
            if LEAST_SHARE <= share < 1 and counts[at] >= COMMON and variance[at]
            else 0.0
            for at, share in enumerate(expected)
        ]
        if sum(map(bool, scales)) <= 2:
            return None
        moves = _moves(rows, GROUPS[len(spreads) - 1], expected, scales)
        direction = max(moves, key=_length, default=[])
        for _ in range(_ROUNDS):  # of the power method
            length = _length(direction)
            if not length:
                return None
            along = [sum(map(float.__mul__, move, direction)) for move in moves]
            direction = [
                sum(part * move[at] for part, move in zip(along, moves, strict=True)) / length
                for at in range(len(direction))
            ]
        length = _length(direction)
        if not length:
            return None
        direction = [float(f"{part / length:.{_DIGITS}g}") for part in direction]
        scales = [float(f"{scale:.{_DIGITS}g}") for scale in scales]
        rest = [
            sum(part * part for part in move) - _along(direction, move) ** 2
            for move in _moves(rows, 1, expected, scales)
        ]
        most = sum(1 - share for share, scale in zip(expected, scales, strict=True) if scale) - 1
        weights = list(map(float.__mul__, direction, scales))
        rows = [(block, records, [_along(weights, row)]) for block, records, row in rows]
        along_it = spreads_of(rows, [_along(weights, expected)])
        if along_it[-1].variance[0] < BEYOND_CHANCE * (1 + math.sqrt(most / len(moves))) ** 2:
            return None
        return Leading(direction, scales, along_it, independence(rest, most))

    def apart(self, records: int, shares: Sequence[float], before: Sequence[float]) -> float | None:
        """How far shares of so many records lie from those before, along it; None where too few are expected."""
        weights = list(map(float.__mul__, self.direction, self.scales))
        if any(weight and records * share < LEAST_EXPECTED for weight, share in zip(weights, before, strict=True)):
            return None
        return _along(weights, shares) - _along(weights, before)

    def dispersion(self, records: float) -> tuple[float, float]:
        """The variance that a record brings to a window of so many, and the degrees of freedom behind it."""
        return dispersion(self.spreads, 0, records, 0.0)


def independence(squares: Sequence[float], most: float) -> float:
    """In how many of `most` directions windows move (by Satterthwaite), from how the sum of squares varies between
    them; as a share, 1 at most."""
    varies, mean = statistics.pvariance(squares), statistics.fmean(squares)
    return round(min(1.0, 2 * mean**2 / varies / most), 3) if varies and most > 0 else 1.0


def _along(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _length(vector: Sequence[float]) -> float:
    return math.sqrt(sum(part * part for part in vector))


def _moves(rows: Sequence[Row], size: int, expected: Sequence[float], scales: Sequence[float]) -> list[list[float]]:
    """How far each group of so many windows went from what is expected, by bin, in its own units."""
    found = []
    for records, sums in grouped(rows, size):
        unit = math.sqrt(records)
        found.append(
            [
                (count - share * records) * scale / unit
                for count, share, scale in zip(sums, expected, scales, strict=True)
            ]
        )
    return found
