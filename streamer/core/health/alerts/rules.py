"""Rules: which number of a pipeline is measured over how long, and from where on it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from streamer.core.health.windows.window import Window
from streamer.core.health.words import Severity
from streamer.core.report import percentile

SILENT: Final = "silent_s"
"""Seconds since the newest report while records wait; it is no number of a window, the app measures it."""

DRIFT: Final = "drifting_monitors"
"""How many monitors say drift; that is no number of a window either."""


GAP: Final = "accuracy_gap"
"""How far the accuracy of labelled answers lies below what their confidence lets one expect."""

QUALITY: Final = (GAP, "accuracy", "f1_macro", "f1_micro", "exact_match", "word_f1", "rouge_l", "ece", "mae")
"""What labels say, by the names of `streamer evaluate`; at least so many labels are asked for, not records."""

_LOW_IS_GOOD: Final = (GAP, "ece", "mae")

LONGEST_S: Final = 86_400
"""What windows tell goes back so far; rules about labels take as much by default."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`name` fires when `metric`, measured over the last `over_s` seconds, is `threshold` or more for `for_s` seconds,
    and ends below `recover`; one that `falls` when it is below `threshold`, and it ends from `recover` on. Below
    `at_least` records, or labels, nothing is said."""

    name: str
    metric: str
    threshold: float
    recover: float
    over_s: int
    for_s: int
    at_least: int
    severity: Severity

    @property
    def falls(self) -> bool:
        """Whether low values are the bad ones."""
        return falls(self.metric)

    def is_broken(self, value: float) -> bool:
        """Whether it is to fire."""
        return value < self.threshold if self.falls else value >= self.threshold

    def is_over(self, value: float) -> bool:
        """Whether it fires no longer, if it has."""
        return value >= self.recover if self.falls else value < self.recover


class Measured(NamedTuple):
    """A rule's number, None where there are too few records, and how many there were. It may be as much as `unknown`
    larger: for so much there were too few records."""

    value: float | None
    records: int
    unknown: float = 0


def falls(metric: str) -> bool:
    """Whether low values of it are the bad ones."""
    return metric in QUALITY and metric not in _LOW_IS_GOOD


def _recover(metric: str, threshold: float) -> float:
    if falls(metric):  # what is missing to 1 shrinks by a fifth
        return round((1 + threshold * 4) / 5, 12)
    return threshold * 4 / 5  # times 0.8 would make 0.04000000000000001 of 0.05


def _rule(
    name: str,
    metric: str,
    threshold: float,
    *,
    for_s: int = 120,
    at_least: int = 200,
    severity: Severity = "ticket",
) -> Rule:
    """A rule over five minutes, or a day of labels."""
    labels = metric in QUALITY
    return Rule(
        name=name,
        metric=metric,
        threshold=threshold,
        recover=_recover(metric, threshold),
        over_s=LONGEST_S if labels else 300,
        for_s=0 if labels else for_s,
        at_least=100 if labels else at_least,
        severity=severity,
    )


DEFAULTS: Final[dict[str, Rule]] = {
    rule.name: rule
    for rule in (
        _rule("dead-letters", "dead_letter_share", 0.05, severity="page"),
        _rule("latency", "latency_p99_ms", 60_000, for_s=300, at_least=100),
        _rule("silent", SILENT, 300, for_s=0, at_least=1, severity="page"),
        _rule("drift", DRIFT, 1, for_s=0, at_least=1),
        _rule("accuracy-gap", GAP, 0.05),
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
        known = rules.get(name) or _rule(name, change["metric"], change["threshold"])
        if "threshold" in change:
            known = msgspec.structs.replace(known, recover=_recover(known.metric, change["threshold"]))
        rules[name] = msgspec.structs.replace(known, **change)
    return list(rules.values())


def measure(rule: Rule, windows: Iterable[Window]) -> Measured:
    """A rule's number over these windows of a pipeline, of all revisions together."""
    windows = list(windows)
    records = sum(window.records for window in windows)
    if records < rule.at_least or rule.metric not in _METRICS:
        return Measured(None, records)
    return Measured(_METRICS[rule.metric](windows), records)


def _share(part: Callable[[Window], int], whole: Callable[[Window], int]) -> Callable[[list[Window]], float | None]:
    def share(windows: list[Window]) -> float | None:
        of = sum(map(whole, windows))
        return sum(map(part, windows)) / of if of else None

    return share


def _latency(share: float) -> Callable[[list[Window]], float | None]:
    def latency(windows: list[Window]) -> float | None:
        counts: dict[int, int] = {}
        for window in windows:
            for bound, count in window.latency_ms.counts:
                counts[bound] = counts.get(bound, 0) + count
        return percentile(counts, share, max((window.latency_ms.max for window in windows), default=0))

    return latency


_METRICS: Final[dict[str, Callable[[list[Window]], float | None]]] = {
    "dead_letter_share": _share(lambda window: sum(window.dead_letters.values()), lambda window: window.records),
    "skipped_share": _share(lambda window: sum(window.skipped.values()), lambda window: window.records),
    "truncated_share": _share(lambda window: window.truncated, lambda window: window.results),
    "cached_share": _share(lambda window: window.cached, lambda window: window.results),
    "latency_p50_ms": _latency(0.5),
    "latency_p99_ms": _latency(0.99),
}
