"""Hits and misses of one label, and the averages over labels.

Zero division: where nothing was predicted, or nothing is there to be found, precision, recall and F1 are 0, as in
scikit-learn's default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Count = int | float
"""How many: whole unless texts were weighted."""


def ratio(part: float, whole: float) -> float:
    """`part / whole`, and 0 where the whole is 0."""
    return part / whole if whole else 0.0


class Counts(NamedTuple):
    """True positives, false positives and false negatives of one label, or of several summed."""

    tp: Count = 0
    fp: Count = 0
    fn: Count = 0

    @property
    def support(self) -> Count:
        """How often the label is true."""
        return self.tp + self.fn

    @property
    def precision(self) -> float:
        """The share of its predictions that are right."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """The share of its occurrences that were found."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def plus(self, other: Counts, weight: Count = 1) -> Counts:
        """The sum of both, where the other counts `weight` times."""
        return Counts(self.tp + weight * other.tp, self.fp + weight * other.fp, self.fn + weight * other.fn)


class Scores(NamedTuple):
    """Precision, recall and F1, averaged over labels in one way."""

    precision: float
    recall: float
    f1: float


def micro(labels: Mapping[str, Counts]) -> Scores:
    """The scores of the sums over all labels."""
    total = summed(labels.values())
    return Scores(total.precision, total.recall, total.f1)


def macro(labels: Mapping[str, Counts]) -> Scores:
    """The mean over labels, each counting the same."""
    return _mean([(1, each) for each in labels.values()])


def weighted(labels: Mapping[str, Counts]) -> Scores:
    """The mean over labels, each counting as often as it is true."""
    return _mean([(each.support, each) for each in labels.values()])


def summed(each: Iterable[Counts]) -> Counts:
    """The sum of all."""
    total = Counts()
    for one in each:
        total = total.plus(one)
    return total


def _mean(each: Sequence[tuple[Count, Counts]]) -> Scores:
    weight = sum(one for one, _ in each)
    return Scores(
        ratio(math.fsum(one * counts.precision for one, counts in each), weight),
        ratio(math.fsum(one * counts.recall for one, counts in each), weight),
        ratio(math.fsum(one * counts.f1 for one, counts in each), weight),
    )
