"""What every way to run a network is held to: known rows, each alone, through the plain network in float32.

A batch, a converted network, another layout or a lower precision may each compute something else without a word: a
padded row that pools its padding, a local attention that became a global one. So the rows are such as tell them apart:
texts of many lengths, pairs, rows of equal length, rows drawn from the whole vocabulary, and the longest one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace

from streamer.inference.model import Sharing
from streamer.inference.models.tokenizer import Row
from streamer.inference.tasks.family import Numbers

Run = Callable[[Sequence[Row]], list[Numbers]]
"""One pass over rows: the numbers of each."""
Distance = Callable[[Numbers, Numbers], float]

FLOAT32_TOLERANCE = 1e-4
"""Between two ways to compute in float32: of a score, and of the largest number of a row."""
# Of the rows by length, which are padded to the longest: a batch of all of them costs several times what they do alone.
_PADDED_EVERY = 4


@dataclass(slots=True)
class Agreement:
    """Rows with the plain network's numbers of each alone. `long` are those that cost much, with rows to pad."""

    short: list[Row]
    long: list[Row]
    _reference: dict[int, Numbers] = field(default_factory=dict)

    def refer(self, run: Run) -> None:
        """Take what `run` makes of each row alone for right. Rows that are not finite even so tell nothing."""
        for rows in (self.short, self.long):
            found = [run([row])[0] for row in rows]
            kept = [(row, own) for row, own in zip(rows, found, strict=True) if np.isfinite(own).all()]
            rows[:] = [row for row, _ in kept]
            self._reference |= {id(row): own for row, own in kept}

    def distance(self, run: Run, sharing: Sharing, distance: Distance, *, alone: bool = True) -> float:
        """The largest of all rows, each alone and in such batches as `sharing` allows; NaN where one is NaN. `alone`
        False is for the very network that was referred to."""
        worst = 0.0
        for batch in (*self._single(), *self._batches(sharing)) if alone else self._batches(sharing):
            for row, own in zip(batch, run(batch), strict=True):
                worst = float(np.maximum(worst, distance(own, self._reference[id(row)])))
                if not np.isfinite(worst):
                    return worst
        return worst

    def _single(self) -> Iterator[list[Row]]:
        yield from ([row] for row in (*self.short, *self.long))

    def _batches(self, sharing: Sharing) -> Iterator[list[Row]]:
        if sharing is Sharing.PADDED:
            ordered = sorted(self.short, key=lambda row: len(row.ids), reverse=True)
            yield ordered[:-1:_PADDED_EVERY] + ordered[-1:]
            if self.long:
                yield [*self.long, *self.short[:1]]
        if sharing is not Sharing.ALONE:
            by_length: dict[int, list[Row]] = {}
            for row in (*self.short, *self.long):
                by_length.setdefault(len(row.ids), []).append(row)
            yield from (batch for batch in by_length.values() if len(batch) > 1)


def twin(row: Row, seed: int) -> Row:
    """Another row of the same length and tokens: those between the first and the last in another order."""
    order = np.random.default_rng(seed).permutation(max(0, len(row.ids) - 2)) + 1
    inner = [row.ids[place] for place in order]
    return replace(row, ids=[*row.ids[:1], *inner, *row.ids[1:][-1:]])


def exact(distance: Distance) -> Distance:
    """For float32: the family's own distance, and no number off by more than that of the row's largest."""

    def further(numbers: Numbers, reference: Numbers) -> float:
        count = min(len(numbers), len(reference))
        off = np.abs(numbers[:count] - reference[:count]).max(initial=0.0)
        size = max(1.0, float(np.abs(reference).max(initial=0.0)))
        return float(np.maximum(distance(numbers, reference), off / size))

    return further
