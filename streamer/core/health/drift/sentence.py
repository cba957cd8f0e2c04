"""Sentences: what a monitor found, for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import accumulate

from streamer.core.health.drift.baseline import Reference
from streamer.core.health.drift.monitors import Monitor, Sums

NAMED = 8
"""Categories of a baseline that are told; the others are counted."""


def moved(sums: Sums, reference: Reference) -> list[tuple[str, float, float]]:
    """By key: the share in the baseline and now, in the order of the baseline's, new ones last."""
    old, new = reference.sums, sums
    keys = list(old.counts) + [key for key in new.counts if key not in old.counts]
    return [(key, old.counts.get(key, 0) / old.records, new.counts.get(key, 0) / max(new.records, 1)) for key in keys]


def sentence(
    monitor: Monitor,
    state: str,
    sums: Sums,
    reference: Reference,
    effect: float,
    n: int,
    n_min: int,
    since_ms: int,
    until_ms: int,
) -> str:
    """Which monitor, by how much, since when, over how many texts."""
    if state == "insufficient":
        return f"{monitor.name.replace('_', ' ')}: too few to tell, {n:,} of the {n_min:,} texts that it takes"
    move = _move(monitor, sums, reference, effect)
    if state == "ok":
        return f"{move}, as in the baseline, {n:,} texts"
    return f"{move} since {_clock(since_ms, until_ms)}, {n:,} texts"


def _move(monitor: Monitor, sums: Sums, reference: Reference, effect: float) -> str:
    if monitor.kind == "ratio":
        return f"{monitor.words} {monitor.unit(reference.ratio):.3g} → {monitor.unit(sums.ratio):.3g}"
    if monitor.kind == "categories":
        key, before, after = max(moved(sums, reference), key=lambda move: round(abs(move[2] - move[1]), 9))
        return f"{monitor.words} {key} {_percent(before)} → {_percent(after)}"
    if monitor.name == "embedding":
        return f"{monitor.words}: PSI {effect:.2g} over their projections"
    old, new = (_quantile(monitor, counts, 0.5) for counts in (reference.sums.counts, sums.counts))
    return f"{monitor.words}: median {old:.3g} → {new:.3g}, PSI {effect:.2g}"


def usual(monitor: Monitor, sums: Sums) -> str:
    """What stands in a baseline for a monitor: shares and counts, where the middle and the ends lie, or a ratio."""
    if monitor.kind == "ratio":
        return f"{monitor.words} {monitor.unit(sums.ratio):.3g}"
    if monitor.kind == "categories":
        ranked = sorted(sums.counts.items(), key=lambda one: (-one[1], one[0]))
        named = ", ".join(f"{key} {_percent(count / sums.records)} ({count:,.0f})" for key, count in ranked[:NAMED])
        return f"{named}, {len(ranked) - NAMED} more" if len(ranked) > NAMED else named
    if monitor.name == "embedding":
        return "projections, by their bins"
    low, half, high = (_quantile(monitor, sums.counts, share) for share in (0.05, 0.5, 0.95))
    return f"half up to {half:.3g}, 90 % from {low:.3g} to {high:.3g}"


def _percent(share: float) -> str:
    digits = 0 if share >= 0.1 or share == 0 else 1
    return f"{share * 100:.{digits}f} %"


def _quantile(monitor: Monitor, counts: Mapping[str, float], share: float) -> float:
    least = sum(counts.values()) * share
    ordered = sorted((int(key), count) for key, count in counts.items())
    reached = accumulate(count for _, count in ordered)
    return monitor.unit(next(key for (key, _), count in zip(ordered, reached, strict=True) if count >= least))


def _clock(since_ms: int, until_ms: int) -> str:
    since, until = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (since_ms, until_ms))
    return since.strftime("%H:%M UTC" if since.date() == until.date() else "%d %b %H:%M UTC")
