"""The fold: reports in any order, in any pieces, any number of times. STREAMER_TEST_HEALTH_REPORTS sets how many
reports are folded in random order."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.health.windows.fold import (
    DAY_MS,
    FIVE_MINUTES_MS,
    HOUR_MS,
    KEEP,
    LENGTHS,
    MARKERS,
    MINUTE_MS,
    REVISIONS,
    Fold,
)
from streamer.core.report import Event, Report
from tests.health_kit import NOW_MS, measured, report

REPORTS = int(os.environ.get("STREAMER_TEST_HEALTH_REPORTS", "6000"))
FEW = {MINUTE_MS: 3, FIVE_MINUTES_MS: 3, HOUR_MS: 2, DAY_MS: 2}


def folded(reports: Iterable[Report]) -> Fold:
    fold = Fold()
    for one in reports:
        fold.add(one)
    return fold


@st.composite
def worlds(draw: st.DrawFn) -> list[Report]:
    """Reports as pipelines write them: no two of a partition overlap, the input has gaps, times are any."""
    reports, reached = [], Counter[tuple[str, int]]()
    for _ in range(draw(st.integers(1, 25))):
        pipeline, partition = place = draw(st.sampled_from(["p", "q"])), draw(st.integers(0, 1))
        first = reached[place] + draw(st.sampled_from([0, 0, 1, 30]))
        last = first + draw(st.integers(MARKERS + 1, 50))
        reached[place] = last + 1
        scale = draw(st.sampled_from([MINUTE_MS, HOUR_MS, DAY_MS]))
        time_ms = NOW_MS + draw(st.integers(-3 * scale, 3 * scale))
        revision = draw(st.sampled_from(["r1", "r2"]))
        reports.append(
            report(time_ms, first, last, pipeline=pipeline, partition=partition, revision=revision, labels={"a": last})
        )
    return reports


@settings(deadline=None)
@given(worlds(), st.randoms(use_true_random=False), st.sampled_from([FEW, KEEP]))
def test_any_order_any_split_any_repetition(reports: list[Report], chance: random.Random, keep: dict[int, int]) -> None:
    """The same state, to the byte; also where it was written down and read again on the way, and where windows went."""
    straight, crooked = Fold(keep), Fold(keep)
    for one in reports:
        straight.add(one)
    mixed = reports + chance.choices(reports, k=len(reports))
    chance.shuffle(mixed)
    for one in mixed:
        crooked.add(one)
        if chance.random() < 0.2:
            crooked.windows("p", MINUTE_MS)
        if chance.random() < 0.2:
            crooked = Fold.restore(crooked.snapshot(), keep)
    assert crooked.snapshot() == straight.snapshot()
    for pipeline in straight.pipelines:
        for length_ms in LENGTHS:
            starts = {window.start_ms for window in straight.windows(pipeline, length_ms)}
            there = {one.time_ms // length_ms * length_ms for one in reports if one.pipeline == pipeline}
            assert starts == set(sorted(there)[-keep[length_ms] :])
            for window in straight.windows(pipeline, length_ms):
                assert window == crooked.window(pipeline, window.revision, window.start_ms, length_ms)
                assert window.settled_again == 0
                assert window.results == sum(
                    one.results
                    for one in reports
                    if (one.pipeline, one.model.revision) == (pipeline, window.revision)
                    and one.time_ms // length_ms * length_ms == window.start_ms
                )


@pytest.mark.promise(13)
def test_reports_in_random_order_with_repeats_equal_the_truth() -> None:
    """Thrice as many as differ, over a day or more; what is expected is added up beside the fold, number by number."""
    chance, step_ms = random.Random(17), max(1, 40 * HOUR_MS // REPORTS)
    reached: Counter[int] = Counter()
    reports, truth = [], defaultdict[Any, Counter[str]](Counter)
    for number in range(REPORTS):
        partition, time_ms = number % 3, NOW_MS + number * step_ms
        first = reached[partition]
        reached[partition] = last = first + 10 + number % 40
        revision, answers = f"r{number // (REPORTS * 2 // 5)}", 10 + number % 40 - number % 2
        counts = {"yes": answers * (number % 7) // 7, "dead": number % 2, "tokens": 3 * number % 101}
        labels = {"yes": counts["yes"], "no": answers - counts["yes"]}
        reports.append(
            report(
                time_ms,
                first,
                last - 1,
                partition=partition,
                revision=revision,
                results=answers,
                dead_letters={"decode.json": 1} if counts["dead"] else {},
                tokens=counts["tokens"],
                labels=labels,
            )
        )
        for length_ms in LENGTHS:
            truth[revision, time_ms // length_ms * length_ms, length_ms].update(counts, results=answers, reports=1)
    mixed = reports + chance.choices(reports, k=2 * REPORTS)
    chance.shuffle(mixed)
    fold = folded(mixed)
    found = {
        (window.revision, window.start_ms, length_ms): Counter(
            yes=(window.labels or {})["yes"],
            dead=sum(window.dead_letters.values()),
            tokens=window.tokens,
            results=window.results,
            reports=window.micro_batches,
        )
        for length_ms in LENGTHS
        for window in fold.windows("p", length_ms)
    }
    assert fold.known == 2 * REPORTS and fold.late == 0
    minutes = sorted({key[1] for key in truth if key[-1] == MINUTE_MS})[-KEEP[MINUTE_MS] :]
    assert found == {key: sums for key, sums in truth.items() if key[-1] > MINUTE_MS or key[1] in minutes}
    assert len({key[1] for key in found if key[-1] == MINUTE_MS}) == KEEP[MINUTE_MS]


def test_reports_of_a_start_or_an_end_count_nothing() -> None:
    """Neither do those that name no offsets, or offsets that can't be."""
    fold = Fold()
    assert not fold.add(report(event=Event("started")))
    assert not fold.add(report(ranges=[]))
    assert not fold.add(report(ranges=[("in", 0, 5, 4)]))
    assert fold.pipelines == [] and fold.known == 0


def test_a_partition_that_is_read_again_counts_again() -> None:
    """Its outcomes are written again: with another model, or later with the same one. The same report is not."""
    reports = [report(), report(revision="r2"), report(NOW_MS + 1_000), report(NOW_MS + MINUTE_MS)]
    fold = folded(reports)
    again = Fold.restore(fold.snapshot())
    for one in reports:
        assert not fold.add(one) and not again.add(one)
    assert again.snapshot() == fold.snapshot() == folded(reports).snapshot()
    windows = fold.windows("p", HOUR_MS)
    assert [(window.revision, window.results, window.settled_again) for window in windows] == [
        ("r1", 30, 20),
        ("r2", 10, 0),
    ]


def test_repeats_of_at_least_once() -> None:
    """They are results that were published twice, and count so; how many offsets that is is told."""
    fold = folded([report(first=0, last=9), report(NOW_MS + 5, first=5, last=14), report(NOW_MS + 9, 2, 12)])
    assert fold.known == 0
    for length_ms in LENGTHS:
        (window,) = fold.windows("p", length_ms)
        assert (window.results, window.settled_again, window.ranges) == (31, 16, {"in/0": [0, 15]})


def test_a_late_report_counts_where_its_time_is_kept() -> None:
    """In all windows of its time that are kept; later still it is told as late."""
    fold = folded(report(NOW_MS + number * MINUTE_MS, number * 10, number * 10 + 9) for number in range(600))
    assert len(fold.windows("p", MINUTE_MS)) == KEEP[MINUTE_MS]
    late = report(NOW_MS + 1_000, 0, 19, partition=1)
    assert fold.add(late) and not fold.add(late)
    assert fold.window("p", "r1", NOW_MS, MINUTE_MS) is None
    for length_ms in (FIVE_MINUTES_MS, HOUR_MS):
        window = fold.window("p", "r1", NOW_MS, length_ms)
        assert window is not None and window.results == 10 * length_ms / MINUTE_MS + 20
    days = Fold(FEW)
    for number in range(4):
        days.add(report(NOW_MS + number * DAY_MS, number * 10, number * 10 + 9))
    days.snapshot()
    assert not days.add(report(NOW_MS, 100, 109)) and days.late == 1


def test_a_window_that_went_does_not_come_back_in_part() -> None:
    """Though a smaller window of its time is still kept."""
    reports = [report(NOW_MS + hour * HOUR_MS, hour * 10, hour * 10 + 9) for hour in range(4)]
    straight, late = Fold(FEW), Fold(FEW)
    for one in reports:
        straight.add(one)
    for one in (*reports[1:], reports[0]):
        late.add(one)
        late.snapshot()
    assert late.snapshot() == straight.snapshot()
    assert [window.start_ms for window in late.windows("p", HOUR_MS)] == [NOW_MS + 2 * HOUR_MS, NOW_MS + 3 * HOUR_MS]


def test_a_report_from_the_future_displaces_one_window() -> None:
    """A clock that is a year ahead does not empty the state."""
    reports = [report(NOW_MS + number * MINUTE_MS, number * 10, number * 10 + 9) for number in range(120)]
    fold = folded([*reports, report(NOW_MS + 365 * DAY_MS, 5_000, 5_009)])
    windows = fold.windows("p", MINUTE_MS)
    assert len(windows) == 120 and windows[0].start_ms == NOW_MS + MINUTE_MS


def test_revisions_without_end_are_bounded() -> None:
    """They displace old windows, and what is left of a minute is whole."""
    fold = folded(
        report(NOW_MS + minute * MINUTE_MS, minute * 10, minute * 10 + 9, revision=f"r{number}")
        for minute in range(100)
        for number in range(8)
    )
    windows = fold.windows("p", MINUTE_MS)
    assert len(windows) == KEEP[MINUTE_MS] * REVISIONS and windows[0].start_ms == NOW_MS + 40 * MINUTE_MS


def test_gaps_of_transactions_leave_few_ranges() -> None:
    """An input whose producers use transactions has a marker after each; what a window knows stays small."""
    fold = folded(report(NOW_MS + number * 1_000, number * 51, number * 51 + 49) for number in range(7_200))
    ranges = [window.ranges["in/0"] for window in fold.windows("p", DAY_MS)]
    assert ranges == [[0, 7_200 * 51 - 1]]
    minute = fold.windows("p", MINUTE_MS)[-1].ranges["in/0"]
    assert len(minute) == 2 * 60, "told apart as long as a report may come late"


def test_a_snapshot_holds_everything() -> None:
    """Measures, and where to read on; what is none is refused."""
    fold = folded(measured(seed, NOW_MS + seed * MINUTE_MS) for seed in range(10))
    fold.upto["streamer.reports/0"] = 12
    again = Fold.restore(fold.snapshot())
    assert again.upto == {"streamer.reports/0": 12} and again.snapshot() == fold.snapshot()
    for length_ms in LENGTHS:
        assert again.windows("p", length_ms) == fold.windows("p", length_ms)
    assert not again.add(measured(3, NOW_MS + 3 * MINUTE_MS))
    for wrong in (b"", b"no snapshot", fold.snapshot()[:-20]):
        with pytest.raises(ValueError, match="no snapshot"):
            Fold.restore(wrong)


def test_numbers_beyond_all_bounds_stop_nothing() -> None:
    """Who may write reports may write nonsense: the state can still be written down and read again."""
    fold = folded([report(tokens=10**30), report(10**20, 50, 59), report(-(10**20), 10**25, 10**25 + 9)])
    assert Fold.restore(fold.snapshot()).windows("p", DAY_MS) == fold.windows("p", DAY_MS)
    assert fold.windows("p", DAY_MS, -(10**30))[1].tokens == 10**30


def test_windows_of_nobody() -> None:
    """An unknown pipeline has none, and windows that are given away are copies."""
    fold = folded([report()])
    assert fold.windows("q", HOUR_MS) == [] and fold.window("q", "r1", NOW_MS, HOUR_MS) is None
    assert fold.window("p", "r2", NOW_MS, HOUR_MS) is None and fold.windows("p", HOUR_MS, NOW_MS + 1) == []
    fold.windows("p", HOUR_MS)[0].ranges["in/0"].clear()
    assert not fold.add(report())
