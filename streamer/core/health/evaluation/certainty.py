"""How sure a number is that was counted on some texts."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from streamer.core.health.quality.counts import ratio

Z: Final = 1.959963984540054
"""How many standard deviations a 95 % interval reaches to either side."""


class Interval(NamedTuple):
    """Where the true value lies, with 95 % certainty."""

    low: float
    high: float


def share_interval(part: float, whole: float) -> Interval:
    """Wilson's interval of a share; all of [0, 1] where nothing was counted."""
    if not whole:
        return Interval(0.0, 1.0)
    share = part / whole
    width = 1 + Z * Z / whole
    middle = (share + Z * Z / (2 * whole)) / width
    half = Z * math.sqrt(share * (1 - share) / whole + Z * Z / (4 * whole * whole)) / width
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test: of texts that only one of two models has right, `only_first` or fewer, or as
    many the other way round, would be the first's if both were as good."""
    n, few = only_first + only_second, min(only_first, only_second)
    if 2 * few >= n:
        return 1.0
    log_half = n * math.log(0.5)
    largest = math.lgamma(n + 1) - math.lgamma(few + 1) - math.lgamma(n - few + 1) + log_half
    total, term = 0.0, 1.0
    for k in range(few, -1, -1):  # each term from the one before it, until they no longer count
        total += term
        term *= k / (n - k + 1)
        if term < total * 1e-17:
            break
    return min(1.0, 2 * math.exp(largest) * total)


def difference_interval(only_first: int, only_second: int, texts: int) -> Interval:
    """The interval of the second model's share of right answers less the first's, on the same texts, by Agresti and Min
    (2005). It counts half a text more in each of the four cells, so that it is honest for few texts, too."""
    mean = (only_second - only_first) / (texts + 2)
    half = Z * math.sqrt(((only_first + only_second + 1) / (texts + 2) - mean * mean) / (texts + 2))
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


class Paired(msgspec.Struct):
    """Sums over texts of the difference between what two models reached on each."""

    texts: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, difference: float) -> None:
        """Count a text."""
        self.texts += 1
        self.total += difference
        self.squares += difference * difference

    @property
    def mean(self) -> float:
        """The mean difference."""
        return ratio(self.total, self.texts)

    @property
    def interval(self) -> Interval | None:
        """The interval of the mean, by the normal distribution; good from a few dozen texts on. None for fewer than
        two, and where all differences are the same."""
        if self.texts < 2:
            return None
        variance = max(0.0, self.squares - self.total * self.mean) / (self.texts - 1)
        if not variance:
            return None
        half = Z * math.sqrt(variance / self.texts)
        return Interval(self.mean - half, self.mean + half)
