"""Rules: which number of a pipeline is measured over how long, and from where on it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from streamer.core.health.words import Severity
from streamer.core.report import percentile

SILENT: Final = "silent_s"
"""Seconds since the newest report while records wait; it is no number of a window, the app measures it."""
_RECOVER: Final = 0.8


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`name` fires when `metric`, measured over the last `over_s` seconds, is `threshold` or more for `for_s` seconds,
    and ends below `recover`. Below `at_least` records nothing is said."""

    name: str
    metric: str
    threshold: float
    recover: float
    over_s: int
    for_s: int
    at_least: int
    severity: Severity


class Measured(NamedTuple):
    """A rule's number, None where there are too few records, and how many there were."""

    value: float | None
    records: int


DEFAULTS: Final[dict[str, Rule]] = {
    rule.name: rule
    for rule in (
        Rule(
            name="dead-letters",
            metric="dead_letter_share",
            threshold=0.05,
            recover=0.04,
            over_s=300,
            for_s=120,
            at_least=200,
            severity="page",
        ),
        Rule(
            name="latency",
            metric="latency_p99_ms",
            threshold=60_000,
            recover=48_000,
            over_s=300,
            for_s=300,
            at_least=100,
            severity="ticket",
        ),
        Rule(
            name="silent",
            metric=SILENT,
            threshold=300,
            recover=240,
            over_s=300,
            for_s=0,
            at_least=1,
            severity="page",
        ),
    )
}
"""What holds without any configuration, by name."""


def rules_of(changes: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Rule]:
    """The default rules with these changes, by a rule's name and what differs from it; names that are no default's are
    rules of their own. A `severity` of off drops a rule."""
    rules = dict(DEFAULTS)
    for name, change in changes:
        if change.get("severity") == "off":
            rules.pop(name, None)
            continue
        known = rules.get(name)
        if known is None:
            known = Rule(
                name=name,
                metric=change["metric"],
                threshold=change["threshold"],
                recover=change["threshold"] * _RECOVER,
                over_s=300,
                for_s=120,
                at_least=200,
                severity="ticket",
            )
        elif "threshold" in change and "recover" not in change:
            change = {**change, "recover": change["threshold"] * _RECOVER}
        rules[name] = msgspec.structs.replace(known, **change)
    return list(rules.values())


def measure(rule: Rule, windows: Iterable[Any]) -> Measured:
    """A rule's number over these windows of a pipeline, of all revisions together."""
    windows = list(windows)
    records = sum(_records(window) for window in windows)
    if records < rule.at_least or rule.metric not in _METRICS:
        return Measured(None, records)
    return Measured(_METRICS[rule.metric](windows), records)


def _records(window: Any) -> int:
    return int(window.results + sum(window.dead_letters.values()) + sum(window.skipped.values()))


def _share(part: Callable[[Any], int], whole: Callable[[Any], int]) -> Callable[[list[Any]], float | None]:
    def share(windows: list[Any]) -> float | None:
        of = sum(map(whole, windows))
        return sum(map(part, windows)) / of if of else None

    return share


def _latency(share: float) -> Callable[[list[Any]], float | None]:
    def latency(windows: list[Any]) -> float | None:
        counts: dict[int, int] = {}
        for window in windows:
            for bound, count in window.latency_ms.counts:
                counts[bound] = counts.get(bound, 0) + count
        return percentile(counts, share, max((window.latency_ms.max for window in windows), default=0))

    return latency


_METRICS: Final[dict[str, Callable[[list[Any]], float | None]]] = {
    "dead_letter_share": _share(lambda window: sum(window.dead_letters.values()), _records),
    "skipped_share": _share(lambda window: sum(window.skipped.values()), _records),
    "truncated_share": _share(lambda window: window.truncated, lambda window: window.results),
    "cached_share": _share(lambda window: window.cached, lambda window: window.results),
    "latency_p50_ms": _latency(0.5),
    "latency_p99_ms": _latency(0.99),
}
