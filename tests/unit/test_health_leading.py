"""Bins that move together from hour to hour: how far they go so is usual, and another move of that size is not."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from streamer.core.health.drift.baseline import Reference
from streamer.core.health.drift.deviation import compare
from streamer.core.health.drift.leading import Leading
from streamer.core.health.drift.monitors import MONITORS, Sums
from streamer.core.health.drift.spread import COMMON, Row, spreads_of

(LABEL,) = [monitor for monitor in MONITORS if monitor.name == "label"]
HOURS = 24
RECORDS = 1_000
WANDERS = 8
"""Of 100 records of a label, by hour."""
TOGETHER = [1, -1] * 5
APART = [1, 1, -1, -1] * 2 + [0, 0]


def drawn(chosen: random.Random, move: float, direction: list[int] = TOGETHER) -> Sums:
    """A window of ten labels, each a tenth of all but for this move."""
    weights = [100 + move * sign for sign in direction]
    return Sums(RECORDS, dict(Counter(chosen.choices("abcdefghij", weights, k=RECORDS))))


@pytest.mark.parametrize("seed", range(4))
def test_a_mix_that_wanders_is_no_drift(seed: int) -> None:
    """Three deviations along the way of the mix are likely, which no test of all bins would say. A move in another
    direction is found as surely as ever."""
    chosen = random.Random(seed)
    moves = [chosen.gauss(0, WANDERS) for _ in range(HOURS)]
    reference = Reference.of("categories", [(at, drawn(chosen, moves[at // 12])) for at in range(12 * HOURS)])
    farthest = 3 * WANDERS
    for move in (farthest, -farthest):
        assert compare(LABEL, [drawn(chosen, move)], [reference]).p() > 5e-4
    assert compare(LABEL, [drawn(chosen, 1.5 * farthest, APART)], [reference]).p() < 1e-6


def test_the_direction_is_that_in_which_hours_lie_apart() -> None:
    """Whatever windows do for themselves; rare bins take no part, and where few are expected nothing is said. There is
    none where hours lie no farther apart than by chance."""
    chosen = random.Random(5)
    rows: list[Row] = []
    for hour in range(HOURS):
        move = chosen.gauss(0, 30)
        for window in range(12):
            noise = chosen.gauss(0, 20)
            row = [300 + move + noise, 300 - move + noise, 390 - 2 * noise, 10]
            rows.append((12 * hour + window, RECORDS, row))
    expected = [0.3, 0.3, 0.39, 0.01]
    counts = [max(share * RECORDS * len(rows), COMMON) for share in expected]
    found = Leading.of(rows, expected, counts, spreads_of(rows, expected))
    assert found is not None
    assert abs(found.direction[0] - found.direction[1]) == pytest.approx(2**0.5, abs=0.1)
    assert found.direction[3] == 0
    assert found.spreads[-1].variance[0] > 8 * found.spreads[0].variance[0]
    moved = found.apart(RECORDS, [0.33, 0.27, 0.39, 0.01], expected)
    assert moved is not None and moved**2 > 0
    assert found.apart(12, [0.33, 0.27, 0.39, 0.01], expected) is None
    alike = [(at, RECORDS, [share * RECORDS + chosen.gauss(0, 15) for share in expected]) for at in range(len(rows))]
    assert Leading.of(alike, expected, counts, spreads_of(alike, expected)) is None
    assert Leading.of(rows, [0.6, 0.4, 0.0, 0.0], counts, spreads_of(rows, [0.6, 0.4, 0.0, 0.0])) is None
