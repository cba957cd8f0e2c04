"""Deviation: how far sums are from their references, how certain that is, and how many records it takes to tell.

Certainty follows from how far windows of the baseline lay apart (the design effect), not from the number of records.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.core.health.drift.baseline import Reference
from streamer.core.health.drift.gtest import f_tail, g_statistic, population_stability, smoothed
from streamer.core.health.drift.leading import LEAST_EXPECTED
from streamer.core.health.drift.monitors import Monitor, Sums
from streamer.core.health.drift.sentence import moved
from streamer.core.health.drift.spread import COMMON, dispersion

PSI_FLOOR = 0.02
SHARE_FLOOR = 0.03
LEAST_PSI_SHARE = 0.001
LARGE = 5.0
"""Times its floor: a PSI of 0.1, or a label's share moved by 15 points."""

NEEDED_OF_TWO_BINS = 300
NEEDED_GROWTH = 0.43
"""It takes so many independent records to see a PSI of 0.1 with three chances in four at one false alarm a month, and
more with more bins, by this power of their number. `streamer bench drift` measures it."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin against its baseline: its share there, the likelihood ratio over its dispersion, the degrees of freedom
    of that, and the variance of the share's difference."""

    share: float
    expected: float
    g: float
    freedom: float
    variance: float

    @property
    def independent(self) -> float:
        """Independent records that would vary as much, inside or outside of it, the fewer of both; 0 for a ratio."""
        return min(self.share, 1 - self.share) * self.share * (1 - self.share) / self.variance if self.variance else 0.0


@dataclass(frozen=True, slots=True)
class Along:
    """A move in the leading direction: its square over its variance, the degrees of freedom of that, how much of the
    sum over all bins it brings, how much of that is usual, and how far bins move each for itself otherwise."""

    g: float
    freedom: float
    part: float
    usual: float
    independence: float


@dataclass(frozen=True, slots=True)
class Table:
    """All bins of one table, how far they move each for itself, and their move together."""

    bins: list[Bin]
    independence: float = 1.0
    along: Along | None = None


@dataclass(frozen=True, slots=True)
class BaselineComparison:
    """Sums against their references. `n_min` records are needed to be `ok`, `n_large` to say that a large move is
    one."""

    n: int
    n_min: int
    n_large: int
    effect: float
    floor: float
    tests: list[Table]

    @property
    def strength(self) -> float:
        """The effect in units of its floor."""
        return self.effect / self.floor

    def p(self, scale: float = 1.0) -> float:
        """How likely chance is to do as much as this, or as `scale` times the statistic."""
        return min(1.0, len(self.tests) * min((_p(table, scale) for table in self.tests), default=1.0))

    def is_large(self, alpha: float, part: float = 1.0) -> bool:
        """Whether it is a move that fewer records show than it takes to be `ok`; from `part` of it on.

        Records are needed in inverse proportion to the square of the move, which is about its PSI (Cohen, Statistical
        Power Analysis, 1988, chapter 7), and `n_min` is for a PSI of 0.1. So from that on certainty alone decides,
        which counts the design effect; but in no bin that would hold fewer than five independent records (Cochran's
        rule, with the effective number of Rao and Scott, 1984), where its level would not be kept.
        """
        if self.n < self.n_large or self.strength < LARGE * part:
            return False
        least = min((_p_of_common(table, 1 / part) for table in self.tests), default=1.0)
        return len(self.tests) * least < alpha


def needed(monitor: Monitor, references: Sequence[Reference]) -> int:
    """Records without which a monitor has not seen enough to be `ok`: more by as much as records come in clusters."""
    if monitor.kind == "ratio":
        return NEEDED_OF_TWO_BINS
    return max(math.ceil(needed_of(len(one.bins)) * one.design_effect) for one in references)


def needed_for_large(references: Sequence[Reference]) -> int:
    """Records without which not even a large move is told: G keeps its level from half of `needed_of` on."""
    return max(needed_of(len(one.bins) or 2) // 2 for one in references)


def needed_of(bins: int) -> int:
    """The same for independent records in so many bins."""
    return round(NEEDED_OF_TWO_BINS * math.pow(bins / 2, NEEDED_GROWTH))


def compare(monitor: Monitor, tables: Sequence[Sums], references: Sequence[Reference]) -> BaselineComparison:
    """Compare as many tables of sums as there are references; all have records."""
    pairs = list(zip(tables, references, strict=True))
    needs = needed(monitor, references)
    counts = min(sums.records for sums in tables), needs, min(needs, needed_for_large(references))
    if monitor.kind == "ratio":
        (sums, reference), *_ = pairs
        effect = abs(sums.ratio - reference.ratio)
        floor = monitor.floor * (abs(reference.ratio) if monitor.relative else 1.0)
        return BaselineComparison(*counts, effect, floor or 1e-9, [Table([_ratio(sums, reference)])])
    tests = [_table(sums, reference) for sums, reference in pairs]
    psi = statistics.fmean(
        _excess_psi(sums, reference, table.bins) for (sums, reference), table in zip(pairs, tests, strict=True)
    )
    if monitor.kind == "categories":
        share = max((abs(after - before) for _, before, after in moved(*pairs[0])), default=0.0)
        if share / SHARE_FLOOR >= psi / PSI_FLOOR:
            return BaselineComparison(*counts, share, SHARE_FLOOR, tests)
    return BaselineComparison(*counts, psi, PSI_FLOOR, tests)


def _p_of_common(table: Table, scale: float) -> float:
    """How likely chance is to do as much to the bin that stands out most, of those with enough independent records
    inside and outside."""
    tails = [f_tail(one.g * scale, 1, one.freedom) for one in table.bins if one.independent >= LEAST_EXPECTED]
    return len(table.bins) * min(tails, default=1.0)


def _p(table: Table, scale: float) -> float:
    """The smallest of three: the bin that stands out most, against as many bins; the move in the leading direction; and
    all bins together, without that move. Bins may be dispersed unlike one another, so that each statistic is divided by
    its own dispersion."""
    bins = table.bins
    single = min(f_tail(one.g * scale, 1, one.freedom) for one in bins)
    if len(bins) <= 2:
        return single
    common = [one for one in bins if one.expected >= LEAST_EXPECTED]
    above = sum(1 - one.share for one in common)
    if len(common) < 2 or above <= 0:
        return min(1.0, single * len(bins))
    together, tests = sum((1 - one.share) * one.g for one in common), [single * len(bins)]
    directions = above * table.independence
    if (along := table.along) is not None:
        together, above = together - along.part, above - along.usual
        directions = (sum(1 - one.share for one in common) - 1) * along.independence
        tests.append(f_tail(along.g * scale, 1, along.freedom))
    below = statistics.median(one.freedom for one in common)
    tests.append(f_tail(max(0.0, together) / above * scale, max(1.0, directions), below))
    return min(1.0, len(tests) * min(tests))


def _table(sums: Sums, reference: Reference) -> Table:
    bins = _bins(sums, reference)
    return Table(bins, reference.independence, _along(sums, reference, bins))


def _along(sums: Sums, reference: Reference, bins: Sequence[Bin]) -> Along | None:
    leading, n, total = reference.leading, sums.records, reference.sums.records
    if leading is None:
        return None
    before = [count / total for count in reference.bins]
    shares = [count / n for count in reference.cut.bins(sums)]
    apart = leading.apart(n, shares, before)
    variance, freedom = leading.dispersion(n)
    above = sum(1 - one.share for one in bins if one.expected >= LEAST_EXPECTED)
    if apart is None or not variance:
        return None
    slowest = max(spread.variance[0] for spread in leading.spreads)
    part = sum(
        direction * math.copysign(math.sqrt((1 - one.share) * one.g), share - old)
        for direction, one, share, old in zip(leading.direction, bins, shares, before, strict=True)
    )
    usual = min(leading.spreads[0].variance[0], above / 2)
    return Along(apart**2 / (variance / n + slowest / total), freedom, part**2, usual, leading.independence)


def _bins(sums: Sums, reference: Reference) -> list[Bin]:
    n, total = sums.records, reference.sums.records
    before, after = reference.bins, reference.cut.bins(sums)
    found = []
    for at, share in enumerate(smoothed(before)):
        independent = share * (1 - share)
        least = independent * (1 if before[at] >= COMMON else reference.design_effect)
        variance, freedom = dispersion(reference.spreads, at, n, least)
        slowest = max(least, max(spread.variance[at] for spread in reference.spreads))
        difference = variance / n + slowest / total
        inflation = difference / (independent * (1 / n + 1 / total))
        g = g_statistic(after[at], n, before[at], total) / inflation
        found.append(Bin(share, share * n, g, freedom, difference))
    return found


def _ratio(sums: Sums, reference: Reference) -> Bin:
    n, total = sums.records, reference.sums.records
    variance, freedom = dispersion(reference.spreads, 0, n, 0.0)
    slowest = max(spread.variance[0] for spread in reference.spreads)
    residual = sums.counts["sum"] - reference.ratio * sums.counts["of"]
    difference = variance / n + slowest / total
    # Where the baseline never varied, any move is certain.
    z_squared = (residual / n) ** 2 / difference if difference else (math.inf if residual else 0.0)
    return Bin(0.0, n, min(z_squared, 1e12), freedom, difference)


def _excess_psi(sums: Sums, reference: Reference, bins: Sequence[Bin]) -> float:
    """The PSI beyond what chance brings to it. Shares under a thousandth count as one: else a handful of records where
    none were known would matter."""
    before, after = (
        [max(share, LEAST_PSI_SHARE) for share in smoothed(counts)]
        for counts in (reference.bins, reference.cut.bins(sums))
    )
    by_chance = sum(one.variance / max(one.share, LEAST_PSI_SHARE) for one in bins)
    return max(0.0, population_stability(before, after) - by_chance)
