"""Two models on the same texts: what each reached on each, counted in pairs."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.core.health.evaluation.certainty import Paired, mcnemar
from streamer.core.health.judges.verdict import Verdict


class Reached(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a verdict to compare it with another model's; `answered` is False where there was none."""

    answered: bool = False
    value: float = 0.0
    cell: list[Any] = []
    right: bool | None = None

    @classmethod
    def of(cls, verdict: Verdict) -> Reached:
        """Weights are multiplied in: two models cut a text into other tokens, and the text is what they share."""
        return cls(True, verdict.value * verdict.weight, list(verdict.cell), verdict.right)


class Comparison(msgspec.Struct):
    """Sums over texts that both models answered; `left_out` are the others. `cells` counts pairs of cells; all else is
    the second model against the first."""

    texts: int = 0
    left_out: int = 0
    only_first: int = 0
    only_second: int = 0
    judged: bool = False
    values: Paired = msgspec.field(default_factory=Paired)
    cells: dict[tuple[Any, ...], int] = {}

    def add(self, first: Reached, second: Reached) -> None:
        """Count a text."""
        if not (first.answered and second.answered):
            self.left_out += 1
            return
        self.texts += 1
        self.values.add(second.value - first.value)
        if first.right is not None and second.right is not None:
            self.judged = True
            self.only_first += first.right and not second.right
            self.only_second += second.right and not first.right
        if first.cell or second.cell:
            pair = (*first.cell, *second.cell)
            self.cells[pair] = self.cells.get(pair, 0) + 1

    @property
    def p(self) -> float | None:
        """The p of McNemar's test; None where answers are not simply right or wrong."""
        return mcnemar(self.only_first, self.only_second) if self.judged else None
