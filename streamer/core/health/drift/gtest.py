"""How far counts lie apart, and how likely chance is to do that.

Certainty comes from the likelihood ratio (the G statistic) of one bin against all others. Unlike a chi-square it keeps
its level where few records are expected. The variance that it is divided by is itself an estimate, so that its tail is
that of the F distribution, not of chi-square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_TINY = 1e-300
_EXACT = 3e-16
_STIRLING_FROM = 10.0


def f_tail(value: float, above: float, below: float) -> float:
    """The probability that an F distributed quantity with `above` and `below` degrees of freedom, which need not be
    whole, exceeds the value."""
    if value <= 0:
        return 1.0
    a, b = below / 2, above / 2
    odds = b * value / a
    # With z = a / (a + b value): the regularised incomplete beta function I_z(a, b).
    front = math.exp(b * math.log(odds) - (a + b) * math.log1p(odds) - _log_beta(a, b))
    if 1 / (1 + odds) < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, 1 / (1 + odds)) / a
    return 1 - front * _fraction(b, a, odds / (1 + odds)) / b


def _fraction(a: float, b: float, z: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * z / (a + 1))
    found = d
    for step in range(1, 10_000):
        two = a + 2 * step
        for factor in (
            step * (b - step) * z / ((two - 1) * two),
            -(a + step) * (a + b + step) * z / (two * (two + 1)),
        ):
            d = 1 / _nonzero(1 + factor * d)
            c = _nonzero(1 + factor / c)
            found *= c * d
        if abs(c * d - 1) < _EXACT:
            break
    return found


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function. For large arguments the difference of two logarithms of gamma functions would
    cancel most digits: Stirling's series gives the difference itself."""
    a, b = max(a, b), min(a, b)
    if a < _STIRLING_FROM:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    if b < _STIRLING_FROM:
        start = math.lgamma(b) + b - b * math.log(a + b)
        return start - (a - 0.5) * math.log1p(b / a) + _stirling(a) - _stirling(a + b)
    start = 0.5 * math.log(2 * math.pi / b) - (a - 0.5) * math.log1p(b / a) - b * math.log1p(a / b)
    return start + _stirling(a) + _stirling(b) - _stirling(a + b)


def _stirling(x: float) -> float:
    """What Stirling's formula leaves of the logarithm of the gamma function, for x of 10 and more."""
    square = x * x
    terms = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360_360, 1 / 156)
    found = 0.0
    for term in reversed(terms):
        found = found / square + term
    return found / x


def g_statistic(count: float, records: float, baseline_count: float, baseline_records: float) -> float:
    """Twice the log likelihood ratio of one bin's share in two samples: that they differ against that they do not."""
    everything = records + baseline_records
    share = (count + baseline_count) / everything
    found = 0.0
    for inside, size in ((count, records), (baseline_count, baseline_records)):
        for observed, expected in ((inside, size * share), (size - inside, size * (1 - share))):
            if observed > 0:
                found += observed * math.log(observed / expected)
    return max(0.0, 2 * found)


def smoothed(counts: Sequence[float]) -> list[float]:
    """Shares with half a record more in each bin, so that no share is 0."""
    total = sum(counts) + len(counts) / 2
    return [(count + 0.5) / total for count in counts]


def population_stability(before: Sequence[float], after: Sequence[float]) -> float:
    """The population stability index (PSI) of two lists of smoothed shares."""
    return sum((new - old) * math.log(new / old) for old, new in zip(before, after, strict=True))


def jensen_shannon(before: Sequence[float], after: Sequence[float]) -> float:
    """The Jensen-Shannon distance of two lists of shares: 0 for equal ones, 1 where they share nothing (logarithms to
    base 2)."""
    found = 0.0
    for old, new in zip(before, after, strict=True):
        middle = (old + new) / 2
        found += sum(share * math.log2(share / middle) / 2 for share in (old, new) if share > 0)
    return math.sqrt(max(0.0, found))
