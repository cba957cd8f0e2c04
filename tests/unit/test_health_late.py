"""A late report that changes a window which was judged already: what is said is as if it had come in time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.health.alerts.drifts import Drifts
from streamer.core.health.alerts.rules import DEFAULTS
from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import FIVE_MINUTES_MS, HOUR_MS, KEEP, Fold
from streamer.core.health.words import BaselineWord, DriftWord
from streamer.core.report import Report
from streamer.health.watch import Watch
from tests.health_kit import NOW_MS, report
from tests.unit.drifting_kit import fill, saved

START_MS = NOW_MS - HOUR_MS
AFTER_MS = 10_000
"""After its end a window is judged."""


@cache
def usual() -> BaselineWord:
    """60 % positive answers."""
    fold = Fold(KEEP)
    fill(fold, NOW_MS - 5 * HOUR_MS, 48)
    return saved(fold, until_ms=NOW_MS - HOUR_MS)


def fresh() -> Drifts:
    drifts = Drifts(lambda _: 1.0)
    drifts.baselines[usual().key] = usual()
    return drifts


def part(window: int, positive: int, records: int, first: int) -> Report:
    """A report of some of a window's records."""
    offset = window * 10_000 + first
    labels = {"positive": positive, "negative": records - positive}
    return report(START_MS + window * FIVE_MINUTES_MS, offset, offset + records - 1, labels=labels)


def looks(drifts: Drifts, fold: Fold, window: int, upto: int = 0) -> Iterator[dict[str, DriftWord]]:
    """What is said a while after the end of this window and of those after it."""
    for at in range(window, max(window, upto) + 1):
        drifts.look(fold, "p", START_MS + (at + 1) * FIVE_MINUTES_MS + AFTER_MS)
        yield drifts.words(["p"])


@settings(deadline=None, max_examples=15)
@given(
    positive=st.lists(st.sampled_from([100, 300, 380]), min_size=2, max_size=5),
    late=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=4),
)
def test_late_reports_end_where_those_in_time_do(positive: list[int], late: list[tuple[int, int]]) -> None:
    """The first window has two reports, as every other one; all others have one. Some come so many windows later."""
    delays = dict(late)
    arrivals = [(at + delays.get(at, 0), part(at, count, 500, 500)) for at, count in enumerate(positive)]
    arrivals += [(at, part(at, count, 500, 0)) for at, count in enumerate(positive) if at % 2 == 0]
    last = max(at for at, _ in arrivals) + 1
    drifts, fold = fresh(), Fold(KEEP)
    for at in range(last + 1):
        for _, one in filter(lambda each: each[0] == at, arrivals):
            fold.add(one)
        (said,) = looks(drifts, fold, at)
    whole = fresh()
    (truth,) = looks(whole, fold, last)
    assert said == truth


def test_late_reports_take_drift_back_and_raise_it() -> None:
    """Half of the records say that labels moved; the other half, which comes later, that they did not, and the other
    way round."""
    for early, late, before, after in ((0, 900, "drift", "ok"), (300, 0, "ok", "drift")):
        drifts, fold = fresh(), Fold(KEEP)
        for at in range(4):
            fold.add(part(at, early, 500, 0))
        *_, said = looks(drifts, fold, 0, 3)
        assert said["p/drift/r1/label"].state == before
        for at in range(4):
            fold.add(part(at, late, 1_000, 500))
        drifts.look(fold, "p", START_MS + 4 * FIVE_MINUTES_MS + AFTER_MS + 1_000)
        assert drifts.words(["p"]) == said, "at most once a minute"
        drifts.look(fold, "p", START_MS + 4 * FIVE_MINUTES_MS + AFTER_MS + 61_000)
        word = drifts.words(["p"])["p/drift/r1/label"]
        assert (word.state, word.n) == (after, 3_000)


def test_a_late_report_calls_nobody_twice() -> None:
    """The rule says what is new once; drift that stays has stayed since it began."""
    drifts, fold, keeper = fresh(), Fold(KEEP), Keeper("reports")
    keeper.fold = fold
    rules = Watch([DEFAULTS["drift"]], {})
    calls = []
    now_ms = START_MS + 4 * FIVE_MINUTES_MS + AFTER_MS
    for at in range(4):
        fold.add(part(at, 0, 500, 0))
    for minute in range(4):
        if minute:
            fold.add(part(minute, 100, 250, 500))
        drifts.look(fold, "p", now_ms + minute * 61_000)
        _, rang = rules.look(keeper, {"p": 0.0}, {"p": drifts.told("p")}, now_ms + minute * 61_000)
        calls += [(word.state, word.since_ms) for word in rang]
    assert calls == [("firing", now_ms)]
    assert drifts.words(["p"])["p/drift/r1/label"].n == 1_500
    assert drifts.words(["p"])["p/drift/r1/label"].since_ms == START_MS


@pytest.mark.parametrize("snapshot", [True, False])
def test_what_was_judged_before_a_restart_stays(snapshot: bool) -> None:
    """A snapshot does not say how each window found the monitors; without one all is judged anew."""
    drifts, fold = fresh(), Fold(KEEP)
    for at in range(4):
        fold.add(part(at, 0, 500, 0))
    *_, said = looks(drifts, fold, 0, 3)
    again = fresh()
    assert not snapshot or again.restore(drifts.snapshot())
    for at in range(4):
        fold.add(part(at, 600, 1_000, 500))
    again.look(fold, "p", START_MS + 4 * FIVE_MINUTES_MS + 2 * AFTER_MS)
    assert (again.words(["p"]) == said) == snapshot
