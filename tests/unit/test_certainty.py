"""Intervals and tests equal scipy's, or cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from streamer.core.health.evaluation.certainty import Paired, difference_interval, mcnemar, share_interval


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 9), (10, 10), (200, 260), (5_000, 5_400), (0, 40)])
def test_mcnemar_is_the_exact_test_of_scipy(first: int, second: int) -> None:
    """A binomial test of the texts that only one of both has right."""
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


@pytest.mark.parametrize(("part", "whole"), [(0, 1), (1, 1), (45, 50), (4_565, 5_000), (0, 300)])
def test_the_interval_of_a_share_is_that_of_scipy(part: int, whole: int) -> None:
    """Wilson's."""
    theirs = binomtest(part, whole).proportion_ci(0.95, "wilson")
    assert share_interval(part, whole) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert share_interval(0, 0) == (0.0, 1.0)


def test_a_mean_difference_has_an_interval() -> None:
    """Mean and standard error by numpy."""
    numbers = np.random.default_rng(1).normal(0.1, 1, 400)
    sums = Paired()
    for number in numbers.tolist():
        sums.add(number)
    half = 1.959963984540054 * numbers.std(ddof=1) / 20
    assert sums.interval == pytest.approx((numbers.mean() - half, numbers.mean() + half), abs=1e-9)
    assert Paired().interval is None
    same = Paired()
    for _ in range(3):
        same.add(0.25)
    assert (same.mean, same.interval) == (0.25, None)


def test_the_interval_of_a_difference_of_shares_covers_as_often_as_it_says() -> None:
    """By drawing texts: also for few of them, and where both models are nearly always right together."""
    draw = np.random.default_rng(5)
    for texts, first, second in ((30, 0.1, 0.1), (30, 0.02, 0.05), (200, 0.15, 0.05)):
        drawn = draw.multinomial(texts, [first, second, 1 - first - second], 20_000)
        intervals = [difference_interval(int(b), int(c), texts) for b, c, _ in drawn]
        covered = np.mean([low <= second - first <= high for low, high in intervals])
        assert covered > 0.94
    low, high = difference_interval(0, 0, 2)
    assert low < -0.4 < 0.4 < high
