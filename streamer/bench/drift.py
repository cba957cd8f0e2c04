"""How often drift is raised for nothing, and how surely ten kinds of it are found, in simulated streams.

A week of a stream is the past: its first day is the frozen baseline, and each hour of the day after it is held against
the same hour of all seven.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

import numpy as np

from streamer.bench.harness.drift_stream import A_DAY, SHIFTS, WINDOW_MS, Stream
from streamer.bench.harness.figures import Figure, Section, Target
from streamer.core.health.drift.baseline import Baseline, Reference, same_hour
from streamer.core.health.drift.deviation import compare, needed_of
from streamer.core.health.drift.finding import Finding, alpha_of, judge
from streamer.core.health.drift.gtest import population_stability
from streamer.core.health.drift.monitors import Monitor, Sums
from streamer.core.health.drift.watch import Watch, settled
from streamer.core.health.windows.window import Window

AN_HOUR = A_DAY // 24
WEEK = 7 * A_DAY
NOON = WEEK + A_DAY // 2
LEAST_RECORDS = 1_000
RECORDS = 1_500
USUAL_RECORDS = 1_450  # with the tide of 0.3 never fewer than 1,000
MONTHLY = (1.0, 0.1)
PARTS = (0.5, 1.0, 1.5)  # of the records needed


class Pair:
    """Both watches of a pipeline. Each may raise drift by itself, although the frozen baseline is short: so there are
    more false alarms, not fewer."""

    def __init__(self, frozen: Baseline, monthly: float) -> None:
        self.frozen = frozen
        self.alpha = alpha_of(monthly, len(frozen.references), WINDOW_MS)
        self.watches = Watch(), Watch()

    def look(self, window: Window, season: Baseline) -> list[Finding]:
        """What both say of the next window."""
        frozen, seasonal = (
            watch.look(window, baseline, self.alpha)
            for watch, baseline in zip(self.watches, (self.frozen, season), strict=True)
        )
        return settled(frozen, seasonal, covers_a_week=True)


def baseline_of(windows: Sequence[Window]) -> Baseline:
    """The baseline of simulated windows, which are always enough."""
    found = Baseline.of(windows)
    assert found is not None
    return found


@dataclass(slots=True)
class Quiet:
    """A stationary day: alarms by monthly budget, and by monitor at the largest."""

    seed: int
    alarms: dict[float, int] = field(default_factory=dict)
    monitors: Counter[str] = field(default_factory=Counter)


def quiet_day(
    seed: int, wander: float = 0.0, monthly: Sequence[float] = MONTHLY, days: int = 7, hours: int = 24
) -> Quiet:
    """Live so many days, and so many hours of the next, in which nothing changes. `monthly` falls."""
    stream = Stream(seed, USUAL_RECORDS, tide=0.3, wander=wander)
    past, day = stream.windows(0, days * A_DAY), stream.windows(days * A_DAY, hours * AN_HOUR)
    frozen = baseline_of(past[:A_DAY])
    seasons = [
        baseline_of(same_hour(past, day[first].start_ms)) for first in range(0, len(day), AN_HOUR)
    ]  # the same for all windows of an hour
    found = Quiet(seed)
    for allowed in monthly:
        # Where the larger budget raises nothing, a smaller one can't.
        quiet = found.alarms and not any(found.alarms.values())
        raised = [] if quiet else list(_alarms(Pair(frozen, allowed), day, seasons))
        found.alarms[allowed] = len(raised)
        if allowed == monthly[0]:
            found.monitors.update(raised)
    return found


def _alarms(pair: Pair, day: Sequence[Window], seasons: Sequence[Baseline]) -> Iterator[str]:
    drifting: set[str] = set()
    for at, window in enumerate(day):
        now = {one.monitor for one in pair.look(window, seasons[at // AN_HOUR]) if one.state == "drift"}
        yield from now - drifting
        drifting = now


@dataclass(slots=True)
class Found:
    """By shift: the windows until it was found (0: not within two), and which monitor named it; and what a window of
    100 records was called."""

    seed: int
    windows: dict[str, int] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    sentences: dict[str, str] = field(default_factory=dict)
    of_few: Counter[str] = field(default_factory=Counter)


def shifted_day(seed: int, records: int = RECORDS) -> Found:
    """Live a week and a morning, and let each kind of shift set in at noon, in windows of exactly so many records."""
    stream = Stream(seed, records, tide=0)
    past = stream.windows(0, WEEK)
    season = baseline_of(same_hour(past, NOON * WINDOW_MS))
    before = baseline_of(same_hour(past, NOON * WINDOW_MS - 1))
    morning = Pair(baseline_of(past[:A_DAY]), 1.0)
    for window in stream.windows(NOON - AN_HOUR, AN_HOUR):
        morning.look(window, before)
    found = Found(seed)
    for shift in SHIFTS:
        pair = copy.deepcopy(morning)
        found.windows[shift], found.named[shift] = 0, ""
        for number, window in enumerate(stream.windows(NOON, 2, shift), 1):
            if drifting := [one for one in pair.look(window, season) if one.state == "drift"]:
                found.windows[shift] = found.windows[shift] or number
                found.named[shift], found.sentences[shift] = drifting[0].monitor, drifting[0].what
    few = Stream(seed, 100, tide=0).windows(NOON, 1)[0]
    found.of_few.update(one.state for one in judge(few, season, morning.alpha))
    return found


def power(bins: int, records: int, psi: float, tries: int = 400, monthly: float = 1.0) -> float:
    """How often a move by this PSI is found in one window of independent records, at the budget of a classifier."""
    random = np.random.default_rng(bins * 100_003 + records)
    shares = np.linspace(2, 1, bins)
    shares /= shares.sum()
    low, high = 0.0, 5.0
    for _ in range(60):  # tilt the shares until they are as far away as asked
        tilt = (low + high) / 2
        moved = shares * np.exp(tilt * np.linspace(-1, 1, bins))
        moved /= moved.sum()
        low, high = (tilt, high) if population_stability(list(shares), list(moved)) < psi else (low, tilt)
    monitor = Monitor("bins", "categories", lambda _: [])

    def drawn(from_shares: np.ndarray[tuple[int], np.dtype[np.float64]], size: int) -> Sums:
        counts = random.multinomial(size, from_shares).tolist()
        return Sums(size, {str(at): count for at, count in enumerate(counts)})

    reference = Reference.of("categories", [(at, drawn(shares, 1_000)) for at in range(7 * AN_HOUR)])
    alpha = alpha_of(monthly, 13, WINDOW_MS)
    hits = [compare(monitor, [drawn(moved, records)], [reference]) for _ in range(tries)]
    return sum(hit.strength >= 1 and hit.p() < alpha for hit in hits) / tries


def drift(
    seeds: int, first: int, shifts: int, processes: int, wander: float, progress: Callable[[str], None]
) -> list[Section]:
    """Everything, over so many seeds."""
    sections = []
    with ProcessPoolExecutor(processes) as pool:
        quiet = []
        for day in pool.map(partial(quiet_day, wander=wander), range(first, first + seeds)):
            quiet.append(day)
            progress(f"{len(quiet)} of {seeds} days without drift")
        found: dict[int, list[Found]] = {}
        for records in (RECORDS, LEAST_RECORDS) if shifts else ():
            found[records] = []
            for one in pool.map(partial(shifted_day, records=records), range(first, first + shifts)):
                found[records].append(one)
                progress(f"{len(found[records])} of {shifts} days with drift, {records:,} records a window")
        powers = {
            bins: pool.map(partial(power, bins, psi=0.1), [round(part * needed_of(bins)) for part in PARTS])
            for bins in ((2, 5, 10, 20, 40) if shifts else ())
        }
        if quiet:
            sections.append(_quiet_section(quiet, wander))
        if found:
            sections.append(_found_section(found[RECORDS], found[LEAST_RECORDS]))
            sections.append(_power_section({bins: list(shares) for bins, shares in powers.items()}))
    return sections


def _quiet_section(quiet: Sequence[Quiet], wander: float) -> Section:
    days = len(quiet)
    targets = {1.0: 6 * days / 100, 0.1: 1 * days / 100}
    monitors = sum((day.monitors for day in quiet), Counter[str]())
    return Section(
        f"False alarms in {days} days without drift",
        [
            Figure(
                f"false_alarms_per_month = {allowed:g}",
                sum(day.alarms[allowed] for day in quiet),
                "alarms",
                Target(at_most=max(1.0, targets[allowed])),
                columns={"allowed": days / 30 * allowed},
            )
            for allowed in MONTHLY
        ],
        [
            f"windows of 5 minutes, 1,000 to 1,900 records in micro-batches of 50, correlation 0.02, wander {wander:g}",
            "by monitor: " + (", ".join(f"{name} {count}" for name, count in monitors.most_common()) or "none"),
            "seeds with alarms: " + (", ".join(str(day.seed) for day in quiet if day.alarms[1.0]) or "none"),
        ],
    )


def _found_section(found: Sequence[Found], of_least: Sequence[Found]) -> Section:
    figures = []
    for shift, (monitor, _) in SHIFTS.items():
        others = Counter(one.named[shift] or "none" for one in found if one.named[shift] != monitor)
        figures.append(
            Figure(
                shift,
                _share(one.named[shift] == monitor for one in found),
                "% named",
                Target(at_least=100),
                columns={
                    "otherwise": ", ".join(f"{name} {count}" for name, count in others.items()) or "-",
                    f"of {LEAST_RECORDS:,}": _share(one.named[shift] == monitor for one in of_least),
                },
            )
        )
    few = _share(set(one.of_few) == {"insufficient"} for one in found)
    figures.append(Figure("100 records: insufficient", few, "%", Target(at_least=100)))
    return Section(
        f"Ten kinds of drift in {len(found)} days, within two windows of {RECORDS:,} records",
        figures,
        list(found[0].sentences.values()),
    )


def _share(met: Iterable[bool]) -> float:
    return 100 * fmean(met)


def _power_section(powers: dict[int, list[float]]) -> Section:
    return Section(
        "How often a PSI of 0.1 is found in one window of independent records",
        [
            Figure(
                f"{bins} bins, {needed_of(bins)} records",
                100 * shares[PARTS.index(1.0)],
                "%",
                Target(at_least=65),
                columns={f"{part:g} times as many": 100 * share for part, share in zip(PARTS, shares, strict=True)},
            )
            for bins, shares in powers.items()
        ],
    )
