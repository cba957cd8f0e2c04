"""Whether the demo's model is right, and whether monitors notice that the last fifth of the tweets is another mix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streamer.core.health.drift.baseline import Baseline
from streamer.core.health.drift.finding import alpha_of, judge
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.confusion import Confusion
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import FIVE_MINUTES_MS
from streamer.core.health.windows.window import Window, merged, window_of
from streamer.core.report import Report
from streamer.demo.script import Item
from streamer.demo.watch import CLEAR_SCORE, Result, Seen, Watch, decode_output

STRETCHES = 24
"""The reports before the other mix are summed to so many windows, whose spread is what is usual."""


class Shift(msgspec.Struct, frozen=True):
    """The planted shift: `texts` of another mix, in which people found `negative_after` of them negative, and
    `negative_before` of those before. `state` is what the monitors say, `what` their sentences."""

    texts: int
    negative_before: float
    negative_after: float
    state: str
    what: list[str]


class Health(msgspec.Struct, frozen=True):
    """How right the labels of `texts` tweets are whose sentiment people found clear: F1, the mean of both labels', and
    by how much the confidence is off (expected calibration error)."""

    texts: int
    f1_macro: float
    ece: float
    shift: Shift


def health_of(watch: Watch, seen: Seen, results: Iterable[tuple[Item, Result]], held: Quality) -> Health:
    """The health of a pipeline that classifies, from its results with their records, how right these are, and its
    reports."""
    moved = {item.value for item in watch.script.items[watch.script.shift :]}
    begins: dict[int, int] = {}
    for place, item in watch.inputs.items():
        if item.value in moved:
            begins[place.partition] = min(place.offset, begins.get(place.partition, place.offset))
    scored = [(item, result.metadata.human_score) for item, result in results if result.metadata is not None]
    scores = {after: [score for item, score in scored if (item.value in moved) == after] for after in (False, True)}
    shares = {after: sum(score < 0 for score in each) / max(1, len(each)) for after, each in scores.items()}
    state, what = findings(seen.reports, begins)
    return Health(
        texts=held.answered,
        f1_macro=round(held.metrics()["f1_macro"] or 0.0, 4),
        ece=round(held.calibration.ece if held.calibration is not None else 0.0, 4),
        shift=Shift(len(scores[True]), round(shares[False], 4), round(shares[True], 4), state, what),
    )


def clear_labels(results: Iterable[Result]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What people say of each text whose sentiment they found clear, and what the model says."""
    for result in results:
        if result.metadata is not None and abs(score := result.metadata.human_score) >= CLEAR_SCORE:
            yield "positive" if score > 0 else "negative", decode_output(result)


def quality(labelled: Iterable[tuple[str, dict[str, Any]]]) -> Quality:
    """Hold the model's outputs to the labels of people."""
    confusion, calibration = Confusion(), Calibration()
    answered = 0
    for truth, output in labelled:
        answered += 1
        confusion.add(truth, output["label"])
        calibration.add(output["score"], output["label"] == truth)
    return Quality(answered=answered, confusion=confusion, calibration=calibration)


def findings(reports: Iterable[Report], shifted: Mapping[int, int]) -> tuple[str, list[str]]:
    """What the monitors say of the reports of the other mix, against a baseline of those before: a state, and the
    sentences of those that say drift, else of the labels' monitor. `shifted` is where the other mix begins, by
    partition."""
    before, after = list[Report](), list[Report]()
    for report in reports:
        starts = [first >= shifted.get(partition, first + 1) for _, partition, first, _ in report.ranges]
        if all(starts):
            after.append(report)
        elif not any(starts):
            before.append(report)
    baseline = Baseline.of(_stretches(before)) if before else None
    if baseline is None or not after:
        return "insufficient", ["too little was settled to compare it with"]
    total = merged([window_of(report, 1) for report in after])
    window = msgspec.structs.replace(total, start_ms=total.first_ms, length_ms=total.last_ms - total.first_ms + 1)
    found = judge(window, baseline, alpha_of(1.0, len(baseline.references), FIVE_MINUTES_MS))
    if drifting := [one.what for one in found if one.state == "drift"]:
        return "drift", drifting
    labels = [one for one in found if one.monitor == "label"]
    return next((one.state for one in labels), "insufficient"), [one.what for one in labels]


def _stretches(reports: Sequence[Report]) -> list[Window]:
    """The reports in the order of time, in windows of about as many results or reports each: in a burst few reports
    have most of the results. They are numbered, not timed: the demo is over before a window of the health app is."""
    ordered = sorted(reports, key=lambda report: report.time_ms)
    results, most = sum(report.results for report in ordered) / STRETCHES, math.ceil(len(ordered) / STRETCHES)
    found, growing = list[Window](), list[Window]()
    for report in ordered:
        growing.append(window_of(report, 1))
        if len(growing) >= most or sum(each.results for each in growing) >= results:
            found.append(msgspec.structs.replace(merged(growing), start_ms=len(found), length_ms=1))
            growing = []
    return found
