"""The same number for groups of texts: where a model is weak."""

from __future__ import annotations

import bisect
import itertools
from typing import Final

import msgspec

LENGTH_EDGES: Final = (0, 25, 50, 100, 200, 400, 800, 1600, 3200)
LENGTHS: Final = (
    *(f"{low}–{high - 1}" for low, high in itertools.pairwise(LENGTH_EDGES)),
    f"{LENGTH_EDGES[-1]} and more",
)
REST: Final = "(all others)"


class Slice(msgspec.Struct):
    """Sums of one group; `mean` is over the texts that were answered."""

    answered: int = 0
    failed: int = 0
    weight: float = 0.0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """The mean value; None where no text was answered."""
        return self.total / self.weight if self.weight else None

    @property
    def texts(self) -> int:
        """How many texts there were, answered or not."""
        return self.answered + self.failed


class Slices(msgspec.Struct):
    """Sums by group. Once there are `most` groups, texts of further ones are counted together."""

    most: int = 50
    groups: dict[str, Slice] = {}

    def of(self, group: str) -> Slice:
        """The sums of a group, to add to."""
        if group not in self.groups and len(self.groups) >= self.most:
            group = REST
        return self.groups.setdefault(group, Slice())

    def add(self, group: str, value: float, weight: float) -> None:
        """Count a text that was answered; its value counts `weight` times."""
        own = self.of(group)
        own.answered += 1
        own.weight += weight
        own.total += value * weight

    def fail(self, group: str) -> None:
        """Count a text that got no answer."""
        self.of(group).failed += 1

    def by_size(self) -> list[tuple[str, Slice]]:
        """The largest groups first."""
        return sorted(self.groups.items(), key=lambda each: -each[1].texts)

    def by_length(self) -> list[tuple[str, Slice]]:
        """The groups by length, in the order of `LENGTHS`."""
        return [(name, self.groups[name]) for name in LENGTHS if name in self.groups]


def length_group(chars: int) -> str:
    """Which of `LENGTHS` a text belongs to."""
    return LENGTHS[bisect.bisect_right(LENGTH_EDGES, chars) - 1]
