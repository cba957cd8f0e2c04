"""Alerts: how a rule's state follows from what is measured, with hysteresis."""

from __future__ import annotations

from streamer.core.health.alerts.rules import QUALITY, Measured, Rule
from streamer.core.health.words import VERSION, State, StateWord

_UNITS = {"s": " s", "ms": " ms"}
_MOST_DIGITS = 12


def judge(rule: Rule, pipeline: str, measured: Measured, now_ms: int, before: StateWord | None) -> StateWord:
    """How the rule stands now, after how it stood `before`.

    With too few records it is `insufficient`, whatever it was before: nothing is known of that time. It is so, too,
    where what is known does not break the rule, and what is not known might. A broken rule is `pending` until it has
    been broken for `for_s`; then it fires, and ends only below `recover`.
    """
    was: State | None = before.state if before is not None else None
    since_ms = before.since_ms if before is not None else now_ms
    state = _state(rule, measured.value, was, now_ms - since_ms)
    if state == "ok" and measured.value is not None and rule.is_broken(measured.value + measured.unknown):
        state = "insufficient"
    if state == "pending" and rule.for_s == 0:
        state = "firing"
    return StateWord(
        version=VERSION,
        pipeline=pipeline,
        rule=rule.name,
        metric=rule.metric,
        state=state,
        since_ms=since_ms if state == was else now_ms,
        time_ms=now_ms,
        threshold=rule.threshold,
        severity=rule.severity,
        what=_what(rule, pipeline, measured, state),
        value=None if state == "insufficient" else measured.value,
        records=measured.records,
    )


def rings(before: StateWord | None, after: StateWord) -> bool:
    """Whether somebody is to be told: a rule begins to fire, or fires no longer."""
    fired = before is not None and before.state == "firing"
    return fired != (after.state == "firing")


def _state(rule: Rule, value: float | None, was: State | None, for_ms: int) -> State:
    if value is None:
        return "insufficient"
    if was == "firing":
        return "ok" if rule.is_over(value) else "firing"
    if not rule.is_broken(value):
        return "ok"
    return "firing" if was == "pending" and for_ms >= rule.for_s * 1000 else "pending"


def _what(rule: Rule, pipeline: str, measured: Measured, state: State) -> str:
    if measured.value is None:
        return f"{pipeline}: {rule.metric} is not known, {measured.records} records in {rule.over_s} s are too few"
    limit = rule.recover if state == "firing" else rule.threshold
    word = "the threshold is"
    if state == "firing":
        word = "it fires until it has reached" if rule.falls else "it fires until it is below"
    value, shown = next(
        (value, shown)
        for digits in range(_MOST_DIGITS)
        for value, shown in [(_text(rule, measured.value, digits), _text(rule, limit, digits))]
        if value != shown or measured.value == limit or digits == _MOST_DIGITS - 1
    )
    return f"{pipeline}: {rule.metric} is {value}; {word} {shown}"


def _text(rule: Rule, value: float, more: int) -> str:
    """The value with `more` digits than people need, so that 59.7 s is not shown as 60 s and yet below 60 s."""
    if rule.metric.endswith("_share"):
        return f"{value:.{1 + more}%}"
    if rule.metric in QUALITY:
        return f"{value:.{3 + more}f}"
    return f"{value:.{more}f}{_UNITS.get(rule.metric.rpartition('_')[2], '')}"
