"""Rules: what is measured of windows, and how a state follows from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.health.alerts.alerts import judge, rings
from streamer.core.health.alerts.drifts import Told
from streamer.core.health.alerts.rules import DEFAULTS, DRIFT, SILENT, Measured, measure, rules_of
from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import Fold
from streamer.core.health.words import State, StateWord
from streamer.health.watch import Watch
from tests.integration.health_reports import MINUTE_MS, report

SHARE = DEFAULTS["dead-letters"]
STATES: tuple[State | None, ...] = (None, "ok", "pending", "firing", "insufficient")


def judged(*values: tuple[float | None, int]) -> list[str]:
    """The states after these values, each at its second."""
    word: StateWord | None = None
    states: list[str] = []
    for value, at_s in values:
        word = judge(SHARE, "mood", Measured(value, 500), at_s * 1000, word)
        states.append(word.state)
    return states


def test_a_broken_rule_fires_after_its_time() -> None:
    assert judged((0.0, 0), (0.05, 10), (0.2, 100), (0.2, 130)) == ["ok", "pending", "pending", "firing"]


def test_a_rule_that_recovers_in_time_does_not_fire() -> None:
    assert judged((0.2, 0), (0.0, 60), (0.2, 119), (0.2, 121)) == ["pending", "ok", "pending", "pending"]


def test_it_ends_below_recover_only() -> None:
    begin = ((0.2, 0), (0.2, 120))
    assert judged(*begin, (0.045, 130), (0.039, 140), (0.045, 150))[2:] == ["firing", "ok", "ok"]


def test_too_few_records_are_neither_well_nor_wrong() -> None:
    """A rule that fired fires no longer where nothing is known, and must be broken for its time again."""
    assert judged((0.2, 0), (0.2, 120), (None, 130), (0.2, 140), (0.2, 200))[1:] == [
        "firing",
        "insufficient",
        "pending",
        "pending",
    ]


def test_since_when() -> None:
    first = judge(SHARE, "mood", Measured(0.2, 500), 1_000, None)
    second = judge(SHARE, "mood", Measured(0.3, 500), 2_000, first)
    assert (first.since_ms, second.since_ms, second.time_ms) == (1_000, 1_000, 2_000)
    assert second.what == "mood: dead_letter_share is 30.0%; the threshold is 5.0%"


@pytest.mark.parametrize(
    ("before", "after", "called"),
    [
        (None, "ok", False),
        (None, "firing", True),
        ("ok", "pending", False),
        ("pending", "firing", True),
        ("firing", "firing", False),
        ("firing", "ok", True),
        ("firing", "insufficient", True),
    ],
)
def test_who_is_called(before: Any, after: Any, called: bool) -> None:
    def word(state: Any) -> StateWord:
        made = judge(SHARE, "mood", Measured(0.0, 500), 0, None)
        made.state = state
        return made

    assert rings(None if before is None else word(before), word(after)) is called


def test_what_is_measured() -> None:
    fold = Fold()
    fold.add(report("mood", 0, 100, MINUTE_MS, dead=30))
    fold.add(report("mood", 100, 300, 2 * MINUTE_MS, dead=10))
    windows = fold.windows("mood", MINUTE_MS, 0)
    assert measure(SHARE, windows) == Measured(0.1, 400)
    assert measure(DEFAULTS["latency"], windows) == Measured(10, 400)
    assert measure(SHARE, windows[:1]) == Measured(None, 100), "fewer than at_least"
    assert measure(SHARE, []) == Measured(None, 0)


def test_changes_of_the_configuration() -> None:
    rules = {
        rule.name: rule for rule in rules_of([("dead-letters", {"threshold": 0.5}), ("latency", {"severity": "off"})])
    }
    assert set(rules) == {"dead-letters", "silent", "drift", "accuracy-gap"}
    assert (rules["dead-letters"].recover, rules["dead-letters"].for_s) == (0.4, SHARE.for_s)
    assert rules["silent"].metric == SILENT
    assert (rules["drift"].metric, rules["drift"].severity, rules["drift"].for_s) == (DRIFT, "ticket", 0)
    own = rules_of([("cut", {"metric": "truncated_share", "threshold": 0.5, "for_s": 0})])[-1]
    assert (own.name, own.severity, own.recover, own.for_s) == ("cut", "ticket", 0.4, 0)
    own = rules_of([("right", {"metric": "accuracy", "threshold": 0.8})])[-1]
    assert (own.recover, own.over_s, own.at_least) == (0.84, 86_400, 100)
    assert rules_of([("off", {"metric": "ece", "threshold": 0.1})])[-1].recover == 0.08


def test_drift_is_a_rule_like_any_other() -> None:
    """What the monitors say is what it measures and tells; somebody is called when it begins and when it ends."""
    keeper = Keeper("reports")
    keeper.take(0, 0, msgspec.json.encode(report("mood", 0, 10, MINUTE_MS)))
    watch = Watch(rules_of([("two", {"metric": DRIFT, "threshold": 2.0, "for_s": 0})]), {})
    said = []
    for value in (None, 0, 1, 2, 1, 0, None):
        told = {"mood": Told(Measured(value, 500), f"mood: {value} monitors")}
        _, calls = watch.look(keeper, {}, told, 0)
        state = watch.standing["mood/drift"]
        assert state.what == f"mood: {value} monitors" and state.severity == "ticket"
        said.append((state.state, watch.standing["mood/two"].state, [call.rule for call in calls]))
    assert said == [
        ("insufficient", "insufficient", []),
        ("ok", "ok", []),
        ("firing", "ok", ["drift"]),
        ("firing", "firing", ["two"]),
        ("firing", "ok", ["two"]),
        ("ok", "ok", ["drift"]),
        ("insufficient", "insufficient", []),
    ]
    watch.look(keeper, {}, {}, 0)
    assert watch.standing["mood/drift"].state == "insufficient", "not judged: the last word stands"


@given(known=st.integers(0, 20), unknown=st.integers(0, 20), threshold=st.integers(1, 10), was=st.sampled_from(STATES))
def test_what_is_not_known_is_never_ok(known: int, unknown: int, threshold: int, was: State | None) -> None:
    """A rule is ok only if it holds however many of those that can't tell are broken."""
    rule = msgspec.structs.replace(DEFAULTS["drift"], threshold=threshold, recover=0.8 * threshold)
    first = judge(rule, "mood", Measured(0, 1), 0, None)
    before = msgspec.structs.replace(first, state=was) if was is not None else None
    word = judge(rule, "mood", Measured(known, 500, unknown), 1_000, before)
    assert (word.state == "firing") >= (known >= threshold)
    if word.state == "ok":
        assert known + unknown < threshold
    assert (word.value is None) == (word.state == "insufficient")


@given(threshold=st.integers(1, 100_000), short=st.floats(1e-6, 0.6), name=st.sampled_from(["silent", "latency"]))
def test_a_number_that_is_below_the_threshold_is_not_said_to_be_it(threshold: int, short: float, name: str) -> None:
    """59.7 s are not the 60 s from which on a rule is broken."""
    rule = msgspec.structs.replace(DEFAULTS[name], threshold=threshold)
    below, there = (judge(rule, "p", Measured(value, 500), 0, None) for value in (threshold - short, threshold))
    assert below.state == "ok" and there.state != "ok"
    is_, limit = below.what.removeprefix(f"p: {rule.metric} is ").split("; the threshold is ")
    assert float(is_.split()[0]) < float(limit.split()[0])
    assert there.what.count(f"{threshold} ") == 1 + (there.state == "pending")
