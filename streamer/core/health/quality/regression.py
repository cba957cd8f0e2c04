"""How far a model's numbers are from the true ones."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from typing import Final

import msgspec

from streamer.core.health.quality.counts import Count, ratio

SAMPLE: Final = 10_000
"""Pairs that are kept for Spearman's correlation where nothing else is said."""


class Regression(msgspec.Struct):
    """Sums over texts. Spearman's correlation is of ranks and can't be had from sums: it is of `sample`, the pairs
    whose keys have the smallest hashes. That is all of them up to `limit`, above it a uniform sample that does not
    depend on order or split, so that samples merge like sums."""

    limit: int = SAMPLE
    texts: Count = 0
    absolute: float = 0.0
    squares: float = 0.0
    signed: float = 0.0
    sample: list[tuple[int, float, float]] = []

    def add(self, truth: float, predicted: float, key: bytes, weight: Count = 1) -> None:
        """Count a text `weight` times, in the sample once; `key` names it, and differs from that of every other."""
        error = predicted - truth
        self.texts += weight
        self.absolute += weight * abs(error)
        self.squares += weight * error * error
        self.signed += weight * error
        # A heap whose first is the largest hash.
        number = -int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
        self._keep((number, truth, predicted))

    def _keep(self, pair: tuple[int, float, float]) -> None:
        if len(self.sample) < self.limit:
            heapq.heappush(self.sample, pair)
        elif pair > self.sample[0]:
            heapq.heapreplace(self.sample, pair)

    def merge(self, other: Regression) -> Regression:
        """New sums of both."""
        merged = Regression(
            min(self.limit, other.limit),
            self.texts + other.texts,
            self.absolute + other.absolute,
            self.squares + other.squares,
            self.signed + other.signed,
        )
        for pair in (*self.sample, *other.sample):
            merged._keep(pair)
        return merged

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return ratio(self.absolute, self.texts)

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return math.sqrt(ratio(self.squares, self.texts))

    @property
    def bias(self) -> float:
        """Mean error: above 0 the model says too much."""
        return ratio(self.signed, self.texts)

    @property
    def spearman(self) -> float | None:
        """Rank correlation of the sample; see `spearman`."""
        return spearman([truth for _, truth, _ in self.sample], [predicted for _, _, predicted in self.sample])


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; ties share their mean rank. None for fewer than two pairs, and where all numbers of
    a side are the same."""
    a, b = _ranks(first), _ranks(second)
    middle = (len(a) + 1) / 2
    spread = math.fsum((x - middle) ** 2 for x in a) * math.fsum((y - middle) ** 2 for y in b)
    if not spread:
        return None
    return math.fsum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True)) / math.sqrt(spread)


def _ranks(numbers: Sequence[float]) -> list[float]:
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    ranks = [0.0] * len(numbers)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and numbers[order[last + 1]] == numbers[order[first]]:
            last += 1
        for place in range(first, last + 1):
            ranks[order[place]] = (first + last) / 2 + 1
        first = last + 1
    return ranks
