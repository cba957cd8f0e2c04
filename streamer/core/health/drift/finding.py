"""Drift: whether a window is still like its baseline.

A move must be large enough to matter, and too unlikely for chance, and there must be enough records to have seen one;
else the answer is `insufficient`, never `ok`. A large move needs fewer records to be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from streamer.core.health.drift.baseline import Baseline, Reference
from streamer.core.health.drift.deviation import BaselineComparison, compare
from streamer.core.health.drift.gtest import jensen_shannon
from streamer.core.health.drift.monitors import MONITORS, Monitor, Sums
from streamer.core.health.drift.sentence import moved, sentence
from streamer.core.health.windows.fold import DAY_MS
from streamer.core.health.windows.window import Window

State = Literal["ok", "insufficient", "drift"]
MONTH_MS = 30 * DAY_MS


class Finding(msgspec.Struct, kw_only=True):
    """What a monitor says. `effect` is the move in its own measure, the share moved, PSI, or the move of a ratio, and
    `floor` the least that matters; `p` is how likely chance is to do as much, `alpha` what it must be under; `n_min`
    are the records needed to be `ok`. `before` and `after` are the two histograms, in shares, `distance` their
    Jensen-Shannon distance; of a ratio the two values. `what` is a sentence for people.
    """

    monitor: str
    state: State
    effect: float
    floor: float
    p: float
    alpha: float
    n: int
    n_min: int
    since_ms: int
    what: str
    distance: float = 0.0
    before: dict[str, float] = {}
    after: dict[str, float] = {}

    @property
    def strength(self) -> float:
        """The effect in units of its floor."""
        return self.effect / self.floor


def finding(
    monitor: Monitor,
    state: State,
    tables: Sequence[Sums],
    references: Sequence[Reference],
    found: BaselineComparison,
    alpha: float,
    since_ms: int,
    until_ms: int,
) -> Finding:
    """What a comparison says of these tables, in numbers and in words."""
    sums, reference = tables[0], references[0]
    if monitor.kind == "ratio":
        before, after = {"value": monitor.unit(reference.ratio)}, {"value": monitor.unit(sums.ratio)}
        distance = 0.0
    else:
        moves = moved(sums, reference)
        before, after = {key: old for key, old, _ in moves}, {key: new for key, _, new in moves}
        distance = jensen_shannon(list(before.values()), list(after.values()))
    return Finding(
        monitor=monitor.name,
        state=state,
        effect=found.effect,
        floor=found.floor,
        p=found.p(),
        alpha=alpha,
        n=found.n,
        n_min=found.n_min,
        since_ms=since_ms,
        what=sentence(monitor, state, sums, reference, found.effect, found.n, found.n_min, since_ms, until_ms),
        distance=distance,
        before=before,
        after=after,
    )


def watched(window: Window, baseline: Baseline) -> Iterator[tuple[Monitor, list[Sums], list[Reference]]]:
    """The monitors that the baseline knows, in the order of explanation, with what they read of the window; nothing
    where it does not tell. Another model than the baseline's is judged only by what comes in."""
    for monitor in MONITORS:
        references = baseline.references.get(monitor.name)
        if references and not (monitor.of_model and window.revision != baseline.revision):
            tables = monitor.read(window)
            yield monitor, tables if len(tables) == len(references) else [], references


def judge(window: Window, baseline: Baseline, alpha: float) -> list[Finding]:
    """Judge one window by itself, in the order of explanation. `Watch` judges windows as they come."""
    found = []
    until_ms = window.start_ms + window.length_ms
    for monitor, tables, references in watched(window, baseline):
        if tables:
            comparison = compare(monitor, tables, references)
            state = verdict(comparison, alpha)
            found.append(finding(monitor, state, tables, references, comparison, alpha, window.start_ms, until_ms))
    return found


def verdict(found: BaselineComparison, alpha: float) -> State:
    """What a comparison by itself amounts to."""
    if found.n < found.n_min:
        return "drift" if found.is_large(alpha) else "insufficient"
    return "drift" if found.strength >= 1 and found.p() < alpha else "ok"


def alpha_of(false_alarms_per_month: float, monitors: int, window_ms: int) -> float:
    """The probability below which a move is no chance, for a pipeline that may raise so many alarms a month although
    nothing has changed, while so many monitors look once a window.

    The looks of a month share that budget. That each window of a row must show the move saves nothing here, since
    windows next to each other are not independent. A second baseline that looks, too, is not counted: where nothing
    but the hour of the day changes, floors leave more of the budget unused than it takes. Where shares also wander at
    random from hour to hour, `streamer bench drift --wander` says what becomes of the budget.
    """
    looks = MONTH_MS / window_ms
    return min(0.5, false_alarms_per_month / (max(monitors, 1) * looks))
