"""How sure a difference of F1 is: the paired bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streamer.core.health.evaluation.certainty import Interval

ROUNDS: Final = 2_000
SEED: Final = 20
_AT_ONCE: Final = 50

_Numbers = npt.NDArray[np.float64]


def f1_difference(cells: Mapping[tuple[Any, ...], int], seed: int = SEED) -> tuple[float, Interval | None]:
    """F1 of the second model less that of the first, and where 95 % of it lie when texts are drawn again, with
    replacement, in pairs: 2.5th to 97.5th percentile of 2,000 rounds. No interval where all rounds say the same.

    Of cells of names (true label, first's, true label, second's) it is the macro average over the labels of `cells`,
    of cells of numbers (hits, false, missed of each) that of the sums. A round draws how often each cell comes, which
    is the same as drawing texts, since texts of a cell are alike.
    """
    keys = list(cells)
    counts = np.array([cells[key] for key in keys])
    f1 = _macro(keys) if isinstance(keys[0][0], str) else _micro(keys)
    draw = np.random.default_rng(seed)
    whole = f1(counts[np.newaxis].astype(np.float64))[0]
    found = []
    for first in range(0, ROUNDS, _AT_ONCE):
        rounds = min(_AT_ONCE, ROUNDS - first)
        drawn = draw.multinomial(counts.sum(), counts / counts.sum(), rounds)
        found.append(f1(drawn.astype(np.float64)))
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    return float(whole), Interval(float(low), float(high)) if low < high else None


def _micro(keys: list[tuple[Any, ...]]) -> Any:
    vectors = np.array(keys, dtype=np.float64)

    def difference(drawn: _Numbers) -> _Numbers:
        sums = drawn @ vectors
        return _f1(sums[:, 3], sums[:, 4], sums[:, 5]) - _f1(sums[:, 0], sums[:, 1], sums[:, 2])

    return difference


def _macro(keys: list[tuple[Any, ...]]) -> Any:
    labels = {label: place for place, label in enumerate(sorted({label for key in keys for label in key}))}

    def hot(side: int) -> npt.NDArray[np.bool_]:
        found = np.zeros((len(keys), len(labels)), dtype=np.bool_)
        found[np.arange(len(keys)), [labels[key[side]] for key in keys]] = True
        return found

    truth = hot(0)

    def of(drawn: _Numbers, predicted: npt.NDArray[np.bool_]) -> _Numbers:
        hits, false, missed = (drawn @ each for each in (truth & predicted, predicted & ~truth, truth & ~predicted))
        there = (hits + false + missed) > 0
        return np.asarray(_f1(hits, false, missed).sum(1) / there.sum(1))

    first, second = hot(1), hot(3)
    return lambda drawn: of(drawn, second) - of(drawn, first)


def _f1(hits: _Numbers, false: _Numbers, missed: _Numbers) -> _Numbers:
    whole = 2 * hits + false + missed
    return np.divide(2 * hits, whole, out=np.zeros_like(whole), where=whole > 0)
