"""Baselines, judgements and watches over windows that are written by hand."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.bench.harness.drift_stream import NORMAL, WINDOW_MS, Stream
from streamer.core.health.drift.baseline import Baseline, same_hour
from streamer.core.health.drift.finding import MONTH_MS, Finding, State, alpha_of, judge
from streamer.core.health.drift.monitors import Binning, Sums
from streamer.core.health.drift.watch import Watch, settled
from streamer.core.health.windows.fold import DAY_MS, HOUR_MS
from streamer.core.health.windows.window import Window
from streamer.core.report import Histogram, Likelihood

ALPHA = alpha_of(false_alarms_per_month=1, monitors=10, window_ms=WINDOW_MS)


def window(number: int, complaints: int = 300, records: int = 1_000, **others: Any) -> Window:
    """A window of a classifier that tells labels and lengths only."""
    return Window(
        **{
            "pipeline": "simulated",
            "revision": "r1",
            "start_ms": number * WINDOW_MS,
            "length_ms": WINDOW_MS,
            "first_ms": number * WINDOW_MS,
            "last_ms": number * WINDOW_MS,
            "results": records,
            "tokens": records * 20,
            "latency_ms": Histogram([], 0, 0),
            "labels": {"complaint": complaints, "praise": records - complaints},
            "text_chars": Histogram([(79, records // 2), (100, records - records // 2)], records * 80, 100),
            **others,
        }
    )


def steady(first: int, count: int, swing: int = 15) -> list[Window]:
    """Windows whose complaints swing about 300 as those of independent records do."""
    return [window(first + at, 300 + (at * 7 % 5 - 2) * swing // 2) for at in range(count)]


def baseline(windows: list[Window]) -> Baseline:
    found = Baseline.of(windows)
    assert found is not None
    return found


def of(findings: list[Finding], monitor: str) -> Finding:
    return next(one for one in findings if one.monitor == monitor)


def test_a_baseline_comes_back_from_json() -> None:
    """Small, and equal in what it says."""
    made = baseline(Stream(1, 1_000).windows(0, 48))
    encoded = made.encode()
    assert Baseline.decode(encoded) == made
    assert len(encoded) < 12_000
    with pytest.raises(msgspec.ValidationError):
        Baseline.decode(b'{"pipeline": 3}')


def test_few_windows_are_no_baseline() -> None:
    """Nine do not tell how far they lie apart, and windows without results do not count."""
    assert Baseline.of(steady(0, 9)) is None
    assert Baseline.of([*steady(0, 9), window(9, 0, 0)]) is None


def test_the_same_hour_is_that_of_the_seven_days_before() -> None:
    """Neither today's, nor the eighth day's, nor another hour's."""
    now_ms = 20 * DAY_MS + 9 * HOUR_MS + 1_234_567
    windows = [window(number) for number in range(21 * 288)]
    found = same_hour(windows, now_ms)
    assert len(found) == 7 * 12
    assert {one.start_ms // HOUR_MS % 24 for one in found} == {9}
    assert {one.start_ms // DAY_MS for one in found} == set(range(13, 20))


def test_a_short_baseline_says_so() -> None:
    """One of a day has seen no Sunday."""
    assert not baseline(steady(0, 288)).covers_a_week
    assert baseline(steady(0, 7 * 288)).covers_a_week


def test_the_budget_shares_a_month_among_looks() -> None:
    """One false alarm in a month of five monitors that look each five minutes."""
    assert alpha_of(1, 5, WINDOW_MS) == pytest.approx(1 / (5 * MONTH_MS / WINDOW_MS))
    assert alpha_of(0.1, 5, WINDOW_MS) == pytest.approx(alpha_of(1, 5, WINDOW_MS) / 10)


def test_a_sentence_names_what_moved() -> None:
    """Monitor, from where, to where, since when, over how many texts; and the two histograms stand beside it."""
    found = of(judge(window(1_000, 420), baseline(steady(0, 288)), ALPHA), "label")
    assert found.state == "drift"
    assert found.what == "label complaint 30 % → 42 % since 11:20 UTC, 1,000 texts"
    assert found.before["complaint"] == pytest.approx(0.3, abs=0.01)
    assert found.after == {"complaint": 0.42, "praise": 0.58}
    assert found.effect == pytest.approx(0.12, abs=0.01)
    assert found.p < ALPHA


@pytest.mark.parametrize(
    ("complaints", "records", "state"),
    [(42, 100, "insufficient"), (30, 100, "insufficient"), (300, 1_000, "ok"), (3_200, 10_000, "ok")],
)
def test_few_records_and_small_moves_raise_nothing(complaints: int, records: int, state: State) -> None:
    """Too few to tell is not ok. Two points are certain over 10,000 records, and do not matter."""
    found = of(judge(window(1_000, complaints, records), baseline(steady(0, 288, 2)), ALPHA), "label")
    assert found.state == state
    assert ("too few to tell" in found.what) == (state == "insufficient")


def test_windows_that_lie_far_apart_need_a_larger_move() -> None:
    """The spread between windows of the baseline is the measure, not that of independent records."""
    moved = window(1_000, 360)
    assert of(judge(moved, baseline(steady(0, 288)), ALPHA), "label").p < 1e-3
    assert of(judge(moved, baseline(steady(0, 288, 100)), ALPHA), "label").p > 0.05


def test_perplexity_is_told_as_people_know_it() -> None:
    """Not as a sum of logarithms."""
    known = baseline([replace(one, likelihood=Likelihood(-60_000.0, 20_000, [])) for one in steady(0, 20)])
    found = of(judge(window(1_000, likelihood=Likelihood(-66_000.0, 20_000, [])), known, ALPHA), "perplexity")
    assert found.what == "perplexity 20.1 → 27.1 since 11:20 UTC, 1,000 texts"
    assert found.effect == pytest.approx(0.3)
    absurd = judge(window(1_000, likelihood=Likelihood(-2e7, 20_000, [])), known, ALPHA)
    assert of(absurd, "perplexity").state == "drift"


def test_a_label_never_seen_is_named() -> None:
    """It has no bin of its own in the baseline."""
    strange = window(1_000, labels={"complaint": 280, "praise": 620, "spam": 100})
    found = of(judge(strange, baseline(steady(0, 288)), ALPHA), "label")
    assert found.state == "drift"
    assert found.what.startswith("label spam 0 % → 10 %")


def test_a_histogram_sees_what_lies_beyond_all_it_has_seen() -> None:
    """Texts longer than any before are no part of the longest bin."""
    longer = window(1_000, text_chars=Histogram([(79, 500), (1_000, 500)], 540_000, 1_000))
    assert of(judge(longer, baseline(steady(0, 288)), ALPHA), "text_chars").state == "drift"
    cut = Binning.of("histogram", Sums(10, {"5": 4, "6": 6}), 0.02)
    assert cut.bins(Sums(4, {"4": 1, "5": 1, "6": 1, "7": 1})) == [1, 1, 1, 1]


def test_a_handful_of_what_was_never_seen_is_no_drift() -> None:
    """It is certain, and does not matter; one text in fifty does."""
    known = baseline(steady(0, 288))
    for strange, expected in ((6, "ok"), (20, "drift")):
        texts = Histogram([(79, 500), (100, 500 - strange), (1_000, strange)], 90_000, 1_000)
        found = of(judge(window(1_000, text_chars=texts), known, ALPHA), "text_chars")
        assert found.state == expected
        assert found.p < ALPHA


def test_bins_that_move_together_count_as_fewer() -> None:
    """Ten labels of which five rise when the others fall are one direction, not nine."""
    chosen = random.Random(1)
    together, apart = [], []
    for at in range(288):
        tide = chosen.gauss(0, 12)
        together.append(window(at, labels={str(k): round(100 + (tide if k % 2 else -tide)) for k in range(10)}))
        drawn = Counter(chosen.choices("abcdefghij", k=1_000))
        apart.append(window(at, labels=dict(drawn)))
    assert baseline(together).references["label"][0].independence < 0.3
    assert baseline(apart).references["label"][0].independence > 0.8


def test_what_never_varied_drifts_with_its_first_move() -> None:
    """A ratio without any spread in the baseline."""
    found = judge(window(1_000, tokens=30_000), baseline(steady(0, 288)), ALPHA)
    assert of(found, "tokens_per_character").state == "drift"
    assert of(judge(window(1_000), baseline(steady(0, 288)), ALPHA), "tokens_per_character").state == "ok"


def test_another_model_is_judged_by_what_comes_in() -> None:
    """Its labels may be others by right."""
    found = judge(replace(window(1_000, 900), revision="r2"), baseline(steady(0, 288)), ALPHA)
    assert [one.monitor for one in found] == ["outcome", "text_chars"]
    mixed = baseline(steady(0, 20) + [replace(one, revision="r2") for one in steady(20, 20)])
    assert mixed.revision == ""
    assert list(mixed.references) == ["outcome", "text_chars"]


def test_drift_needs_two_windows_and_clears_when_it_is_over() -> None:
    """One window far off raises nothing; `since` is the start of the first of the row; it clears once."""
    known, watch = baseline(steady(0, 288)), Watch()
    said = []
    complaints = (300, 450, 300, 300, 450, 450, 450, 335, 300, 300, 300)
    for at, count in enumerate(complaints):
        watch = msgspec.json.decode(msgspec.json.encode(watch), type=Watch)  # as after a restart
        said.append(of(watch.look(window(1_000 + at, count), known, ALPHA), "label"))
    states = "".join("d" if one.state == "drift" else "." for one in said)
    assert states == ".....ddd..." or states == ".....dd....", states
    assert said[5].since_ms == said[6].since_ms == 1_004 * WINDOW_MS
    assert said[5].n == 2_000


def test_the_move_must_fall_below_what_raised_it() -> None:
    """A move between 0.8 of the floor and the floor raises nothing and clears nothing."""
    known = baseline(steady(0, 288, 2))
    for raised, expected in ((False, "ok"), (True, "drift")):
        watch = Watch()
        for at in range(2):
            watch.look(window(1_000 + at, 4_000 if raised else 3_000, 10_000), known, ALPHA)
        for at in range(3):
            last = watch.look(window(1_002 + at, 3_270, 10_000), known, ALPHA)
        assert of(last, "label").state == expected
        assert 0.8 < of(last, "label").strength < 1


def test_a_window_grows_while_records_are_few() -> None:
    """Insufficient until enough have come; no record is looked at in more than two looks."""
    known, watch = baseline(steady(0, 288)), Watch()
    said = [of(watch.look(window(1_000 + at, 30, 100), known, ALPHA), "label") for at in range(8)]
    assert [one.state for one in said[:3]] == ["insufficient"] * 3
    assert said[-1].state == "ok"
    assert 800 >= said[-1].n >= said[-1].n_min > 300
    drifted = [of(watch.look(window(1_008 + at, 45, 100), known, ALPHA), "label") for at in range(12)]
    assert drifted[-1].state == "drift"
    assert drifted[-1].n <= 800


def test_an_hour_of_silence_starts_anew() -> None:
    """What was ok before is not ok now; drift stays until windows show that it is over."""
    known = baseline(steady(0, 288))
    for complaints, expected in ((300, "insufficient"), (500, "drift")):
        watch = Watch()
        for at in range(2):
            watch.look(window(1_000 + at, complaints), known, ALPHA)
        assert of(watch.look(window(1_040, 30, 100), known, ALPHA), "label").state == expected


def test_a_monitor_that_reports_no_longer_feed_says_nothing() -> None:
    """It is not ok for ever."""
    known, watch = baseline(steady(0, 288)), Watch()
    assert of(watch.look(window(1_000), known, ALPHA), "label").state == "ok"
    for at in range(12):
        last = watch.look(window(1_001 + at, labels=None), known, ALPHA)
    assert "label" not in [one.monitor for one in last]
    assert of(last, "text_chars").state == "ok"


def test_an_hour_of_few_records_is_insufficient() -> None:
    """What was ok an hour ago is not ok now."""
    known, watch = baseline(steady(0, 288)), Watch()
    assert of(watch.look(window(1_000), known, ALPHA), "label").state == "ok"
    states = [of(watch.look(window(1_001 + at, 3, 10), known, ALPHA), "label").state for at in range(36)]
    assert states[-1] == "insufficient"


def test_a_new_model_starts_anew() -> None:
    """Drift of the model before is not its own."""
    known, watch = baseline(steady(0, 288)), Watch()
    for at in range(3):
        assert watch.look(window(1_000 + at, 500), known, ALPHA)
    fresh = baseline([replace(one, revision="r2") for one in steady(0, 288)])
    found = of(watch.look(replace(window(1_003, 500), revision="r2"), fresh, ALPHA), "label")
    assert found.state == "ok"
    assert found.n == 1_000


def _said(state: State) -> list[Finding]:
    found = of(judge(window(1_000), baseline(steady(0, 288)), ALPHA), "label")
    found.state = state
    return [found]


@pytest.mark.parametrize(
    ("frozen", "covers_a_week", "season", "expected"),
    [
        ("drift", True, "ok", "drift"),
        ("ok", True, "drift", "drift"),
        ("insufficient", True, "ok", "ok"),
        ("drift", False, "ok", "ok"),  # an evening
        ("drift", False, "drift", "drift"),
        ("drift", False, "insufficient", "drift"),
        ("drift", False, "", "drift"),
    ],
)
def test_two_baselines_settle_on_one_finding(frozen: State, covers_a_week: bool, season: Any, expected: State) -> None:
    """Over a frozen baseline shorter than a week, the same hour of the days before has the last word."""
    (found,) = settled(_said(frozen), _said(season) if season else [], covers_a_week=covers_a_week)
    assert found.state == expected


def test_the_stream_is_what_it_is_said_to_be() -> None:
    """The simulation's shares have the correlation that it names: twice the variance of independent records."""
    found = baseline(Stream(3, 1_000, tide=0).windows(0, 288)).references["label"][0]
    assert found.design_effect == pytest.approx(1 + 0.02 * 49, rel=0.25)
    assert NORMAL.labels.sum() == pytest.approx(1)


@pytest.fixture(scope="module")
def noisy() -> Baseline:
    """Of 65 % complaints, in clusters of records that are alike: `ok` takes more records than an hour has."""
    random_ = random.Random(7)
    return baseline([window(at, 50 * sum(random_.random() < 0.65 for _ in range(20))) for at in range(288)])


def test_a_large_move_needs_fewer_records_than_ok(noisy: Baseline) -> None:
    """Two windows in a row that show it. A smaller move, and one window, they do not show."""
    for after, expected in (([10, 10], "iD"), ([10, 650, 10], "iii"), ([530, 530, 530], "iii"), ([650, 650], "ii")):
        watch, said = Watch(), list[Finding]()
        for at, complaints in enumerate(after):
            said.append(of(watch.look(window(1_000 + at, complaints), noisy, ALPHA), "label"))
        assert "".join("D" if one.state == "drift" else one.state[0] for one in said) == expected
        assert said[-1].n_min > 12 * 1_000
        if expected == "iD":
            assert said[-1].what == "label complaint 65 % → 1.0 % since 11:20 UTC, 2,000 texts"
            assert said[-1].since_ms == 1_000 * WINDOW_MS


@pytest.mark.parametrize(("records", "expected"), [(1_000, ["insufficient", "ok"]), (3, ["drift", "drift"])])
def test_a_large_move_that_few_records_showed_ends_when_they_show_it_no_longer(
    noisy: Baseline, records: int, expected: list[State]
) -> None:
    """After an hour as what it is, too few to call it ok, and after two as ok. Of nearly nothing nothing follows."""
    watch, said = Watch(), list[State]()
    for at, complaints in enumerate([10, 10, *[records * 2 // 3] * 24]):
        found = watch.look(window(1_000 + at, complaints, 1_000 if at < 2 else records), noisy, ALPHA)
        said.append(of(found, "label").state)
    assert said[:2] == ["insufficient", "drift"]
    assert [said[14], said[-1]] == expected


@given(complaints=st.integers(0, 100), before=st.integers(1, 19))
def test_a_hundred_records_tell_nothing(complaints: int, before: int) -> None:
    """Whatever they are, however quiet the baseline was."""
    known = _of_shares(before)
    (found,) = [one for one in judge(window(1_000, complaints, 100), known, ALPHA) if one.monitor == "label"]
    assert found.state == "insufficient"


@cache
def _of_shares(before: int) -> Baseline:
    return baseline([window(at, 50 * before + (at % 3 - 1) * 5) for at in range(24)])
