"""Probabilities and distances, held to scipy."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats
from scipy.spatial import distance

from streamer.core.health.drift.gtest import f_tail, g_statistic, jensen_shannon, population_stability, smoothed


def test_tail_probabilities_equal_scipys() -> None:
    """Over 250 decades, for whole and broken degrees of freedom, and for as many below as there are windows in a
    month."""
    chosen = random.Random(1)
    for _ in range(3_000):
        above = chosen.choice([1.0, 2.0, 4.0, 19.0, 40.0, chosen.uniform(0.5, 60)])
        below = 10 ** chosen.uniform(0, 4)
        value = 10 ** chosen.uniform(-3, 2.3)
        expected = float(stats.f.sf(value, above, below))
        if expected > 1e-250:
            assert f_tail(value, above, below) == pytest.approx(expected, rel=1e-12), (value, above, below)


def test_many_degrees_of_freedom_come_to_chi_square() -> None:
    """What is known exactly has the tail of a chi-square."""
    for value in (1.0, 10.0, 40.0):
        assert f_tail(value / 4, 4, 1e9) == pytest.approx(float(stats.chi2.sf(value, 4)), rel=1e-6)


def test_nothing_is_certain_of_no_difference() -> None:
    """A statistic of 0 has the probability 1."""
    assert f_tail(0.0, 1, 10) == 1.0


@pytest.mark.parametrize(
    ("count", "records", "before", "of"), [(30, 100, 2_000, 10_000), (0, 50, 3, 1_000), (5, 5, 1, 10_000)]
)
def test_the_g_statistic_equals_scipys(count: int, records: int, before: int, of: int) -> None:
    """Two samples, one bin against the rest."""
    table = [[count, records - count], [before, of - before]]
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    assert g_statistic(count, records, before, of) == pytest.approx(expected, rel=1e-9)


def test_equal_shares_have_no_distance() -> None:
    """Also where rounding would leave a little less than nothing."""
    shares = smoothed([3, 0, 7])
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    assert population_stability(shares, shares) == 0
    assert jensen_shannon(shares, shares) == 0
    assert g_statistic(3, 9, 30, 90) == pytest.approx(0, abs=1e-12)


def test_distances_equal_known_values() -> None:
    """Ten points of a label of 30 %: a PSI of 0.044 and a Jensen-Shannon distance of 0.074 in natural logarithms."""
    before, after = [0.3, 0.7], [0.4, 0.6]
    assert population_stability(before, after) == pytest.approx(0.0442, abs=1e-4)
    assert jensen_shannon(before, after) == pytest.approx(float(distance.jensenshannon(before, after, base=2)))
    assert jensen_shannon(before, after) * math.sqrt(math.log(2)) == pytest.approx(0.074, abs=1e-3)
    assert jensen_shannon([1, 0], [0, 1]) == 1
