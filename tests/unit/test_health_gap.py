"""Rules about labels: how right answers turn out to be, by themselves and against what their confidence promised."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamer.core.health.alerts.alerts import judge
from streamer.core.health.alerts.drifts import Told
from streamer.core.health.alerts.rated import rated
from streamer.core.health.alerts.rules import DEFAULTS, GAP, QUALITY, Rule, falls, rules_of
from streamer.core.health.drift.estimate import gap_of
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.evidence import Number, One
from streamer.core.health.quality.quality import Quality, lower_is_better
from streamer.core.health.sums import added
from streamer.core.health.words import StateWord

RULE = DEFAULTS["accuracy-gap"]
CONFIDENCE = ((0.97, 0.9), (0.52, 0.6))
"""Scores, and how often each is right."""


def labelled(draw: random.Random, count: int, worse: float = 0.0, unsure: float = 0.3, weight: float = 1) -> Quality:
    """So many labels, of which this share is on unsure answers; all are right less often by `worse`."""
    quality = Quality()
    for at in range(count):
        score, right = CONFIDENCE[draw.random() < unsure]
        truth = "a" if draw.random() < right - worse else "b"
        quality.count(One(truth, "a", score), str(at).encode(), weight)
    return quality


def known(draw: random.Random, count: int = 2_000) -> Calibration:
    """How often confidence was right in an evaluation."""
    found = labelled(draw, count).calibration
    assert found is not None
    return found


def measured(counts: list[Any], right: list[Any]) -> Calibration:
    return Calibration(counts, right)


def told(quality: Quality, calibration: Calibration | None, rule: Rule = RULE, *, firing: bool = False) -> Told:
    calibrations = {"r1": calibration} if calibration is not None else {}
    return rated(rule, "mood", {"r1": quality}, calibrations, 1.0, firing=firing)


def test_answers_that_are_right_less_often_than_before_raise_an_alarm() -> None:
    """By ten points: 1,000 labels are sure of it."""
    draw = random.Random(1)
    found = told(labelled(draw, 1_000, worse=0.1), known(draw))
    assert found.measured.value == pytest.approx(0.1, abs=0.03) and found.measured.records == 1_000
    assert "labelled answers are right, where their confidence lets one expect 8" in found.what
    assert judge(RULE, "mood", found.measured, 0, None).state == "firing"


def test_harder_texts_and_chosen_ones_are_no_gap() -> None:
    """Accuracy falls by ten points, as the confidence said, whoever chose what is labelled."""
    draw = random.Random(2)
    found = told(labelled(draw, 3_000, unsure=0.8), known(draw))
    assert judge(RULE, "mood", found.measured, 0, None).state == "ok"


def test_a_gap_that_may_be_chance_is_insufficient() -> None:
    """It is large enough, and 100 labels are too few to be sure of it."""
    calibration = measured([100] * 20, [80] * 20)
    for right, firing, value in ((74, False, None), (60, False, 0.2), (64, False, None), (64, True, 0.16)):
        calibrated = measured([0] * 19 + [100], [0] * 19 + [right])
        quality = Quality(100, confusion=labelled(random.Random(1), 1).confusion, calibration=calibrated)
        found = told(quality, calibration, firing=firing)
        assert found.measured.value == (value if value is None else pytest.approx(value)), (right, firing)
        assert found.what.endswith("too few labels to be sure of it") == (value is None)


def test_months_without_a_change_are_quiet() -> None:
    """Ten months of 144 labels a day, of which the last day is looked at each hour, half of them by a calibration of
    300 labels: ten alarms are allowed. Chance makes hundreds of hours whose gap is large enough."""
    draw, alarms, large = random.Random(3), 0, 0
    for month in range(10):
        calibration = known(draw, 300 if month % 2 else 2_000)
        hours = [labelled(draw, 6).calibration for _ in range(24 * 30)]
        before: StateWord | None = None
        window = [Calibration() for _ in range(24)]
        for hour in hours:
            assert hour is not None
            window = [*window[1:], hour]
            total = added(window)
            assert total is not None
            quality = Quality(sum(total.counts), confusion=RIGHT.confusion, calibration=total)  # type: ignore[arg-type]
            found = told(quality, calibration, firing=before is not None and before.state == "firing")
            gap = gap_of(total, calibration)
            large += gap is not None and gap.labels >= RULE.at_least and gap.size >= RULE.threshold
            word = judge(RULE, "mood", found.measured, 0, before)
            alarms += word.state == "firing" and (before is None or before.state != "firing")
            before = word
    assert large > 300
    assert alarms <= 10


RIGHT = labelled(random.Random(1), 1)


@pytest.mark.parametrize(
    ("quality", "calibration", "text"),
    [
        (labelled(random.Random(1), 99), None, "99 labels of results of the last 24 h, and it takes 100"),
        (labelled(random.Random(1), 100), None, "streamer health baseline calibrate mood"),
        (labelled(random.Random(1), 100, weight=10.5), known(random.Random(1)), "no accuracy is expected"),
        (labelled(random.Random(1), 100), measured([5] + [0] * 19, [5] + [0] * 19), "no accuracy is expected"),
        (Quality(100), known(random.Random(1)), "no accuracy is expected"),
    ],
)
def test_what_is_missing_is_said(quality: Quality, calibration: Calibration | None, text: str) -> None:
    found = told(quality, calibration)
    assert found.measured.value is None and text in found.what
    assert judge(RULE, "mood", found.measured, 0, None).state == "insufficient"


def test_a_rule_of_ones_own_fires_where_accuracy_is_too_low() -> None:
    """The worst revision with enough labels counts; it ends once a fifth of what is missing is made up."""
    (rule,) = [one for one in rules_of([("right", {"metric": "accuracy", "threshold": 0.8})]) if one.name == "right"]
    states, before = [], None
    for right in (85, 80, 79, 83, 84):
        quality = Quality()
        for at in range(100):
            quality.count(One("a" if at < right else "b", "a", 0.9), b"")
        sums = {"r1": quality, "r2": labelled(random.Random(1), 20, worse=0.5)}
        found = rated(rule, "mood", sums, {}, 1.0, firing=False)
        before = judge(rule, "mood", found.measured, 0, before)
        states.append(before.state)
    assert states == ["ok", "ok", "firing", "firing", "ok"]
    numbers: Any = Quality()
    for at in range(100):
        numbers.count(Number(at, at + 3.0), str(at).encode())
    assert told(numbers, None, rule).what == "mood: its labels give no accuracy"
    (error,) = [one for one in rules_of([("far", {"metric": "mae", "threshold": 2.0})]) if one.name == "far"]
    assert judge(error, "mood", told(numbers, None, error).measured, 0, None).what == (
        "mood: mae is 3.000; it fires until it is below 1.600"
    )


def test_which_way_is_wrong() -> None:
    assert all(falls(metric) != lower_is_better(metric) for metric in QUALITY if metric != GAP)
    assert not falls(GAP) and not falls("latency_p99_ms")
