"""What there is to see of a pipeline's health: a sentence first, then columns over time, and histograms.

It has no clock: times are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from streamer.core.health.alerts.rules import DRIFT
from streamer.core.health.drift.estimate import expected
from streamer.core.health.drift.monitors import MONITORS
from streamer.core.health.evaluation.headline import metric_words
from streamer.core.health.pages.graded import Graded, graded
from streamer.core.health.pages.view import KEEP, PipelineView, Point, Saved
from streamer.core.health.windows.fold import HOUR_MS
from streamer.core.health.words import DriftWord, StateWord
from streamer.core.tally import duration, plural

Level = Literal["ok", "warn", "bad", "unknown"]

STALE_MS: Final = 3 * 60_000
"""The app writes each state once a minute."""
WRITTEN_MS: Final = 10_000
"""So long after its end a window is on the topic."""
LEAST_WINDOWS: Final = 12
MOST_LABELS: Final = 6
"""Labels that have a colour of their own."""
MOST_REVISIONS: Final = 5
MOST_BARS: Final = 40

_MONITORS: Final = {monitor.name: (place, monitor) for place, monitor in enumerate(MONITORS)}


class Headline(msgspec.Struct, frozen=True):
    """How a pipeline stands: a level for a colour, a word, and a sentence for people."""

    level: Level
    state: str
    what: str


class Series(msgspec.Struct, frozen=True):
    """One revision over time: numbers by name, and the shares of its most frequent answers, the rest as "". `metric`
    names the number `realised`, what feedback says; "" without any."""

    revision: str
    model: str
    results: int
    columns: dict[str, list[float | None]]
    labels: dict[str, list[float | None]]
    metric: str


class Bars(msgspec.Struct, frozen=True):
    """What a monitor says, with both histograms: `bars` are name, share in the baseline, share now; of a ratio, the two
    values."""

    revision: str
    monitor: str
    kind: str
    state: str
    against: str
    since_ms: int
    effect: float
    floor: float
    n: int
    n_min: int
    what: str
    bars: list[tuple[str, float, float]]
    left_out: int = 0


class Picture(msgspec.Struct, kw_only=True):
    """A pipeline. `time_s` are the starts of the windows, without a gap; columns have None where there is none.
    `left_out` are older revisions. It is not `whole` while only the last day was read, and `cut` where what was said
    long ago is not read at all: a baseline may be among that."""

    pipeline: str
    headline: Headline
    heard_ms: int
    length_ms: int
    time_s: list[float]
    series: list[Series]
    left_out: int
    rules: list[StateWord]
    drift: list[Bars]
    quality: list[Graded]
    baselines: dict[str, Saved]
    whole: bool
    cut: bool


def picture(
    name: str, view: PipelineView, length_ms: int, now_ms: int, *, whole: bool = True, cut: bool = False
) -> Picture:
    """All of a pipeline, with windows of this length."""
    starts = _starts(view, length_ms, now_ms)
    revisions = view.revisions(length_ms)
    return Picture(
        pipeline=name,
        headline=headline(view, now_ms),
        heard_ms=min(view.heard_ms, now_ms),
        length_ms=length_ms,
        time_s=[start_ms / 1000 for start_ms in starts],
        series=[_series(view, length_ms, revision, starts) for revision in revisions[:MOST_REVISIONS]],
        left_out=max(0, len(revisions) - MOST_REVISIONS),
        rules=[word for _, word in sorted(view.states.items())],
        drift=[_bars(word) for word in _ranked(view)],
        quality=_quality(view),
        baselines={
            revision: msgspec.structs.replace(saved, calibration=None) for revision, saved in view.baselines.items()
        },
        whole=whole,
        cut=cut,
    )


def headline(view: PipelineView, now_ms: int) -> Headline:
    """What a person must know first: what drifts or fires, or that it can't be told, or that all is well."""
    heard_ms = view.heard_ms
    if now_ms - heard_ms > STALE_MS:
        silent = duration((now_ms - heard_ms) / 1000)
        return Headline("unknown", "no word", f"the health app has not spoken for {silent}: does it run?")
    firing = [word for word in view.states.values() if word.state == "firing"]
    drifting = [word for word in _ranked(view) if word.state == "drift"]
    said = [_plain(word) for word in firing if word.metric != DRIFT]
    if drifting:
        others = len(drifting) - 1
        more = f"; {plural(others, 'more monitor')} drift{'s' if others == 1 else ''}" if others else ""
        said.append(drifting[0].what + more)
    if said:
        bad = any(word.severity == "page" for word in firing)
        state = "firing" if len(said) > len(drifting[:1]) else "drift"
        return Headline("bad" if bad else "warn", state, "; ".join(said))
    rule = next((word for word in view.states.values() if word.metric == DRIFT), None)
    told = _plain(rule) if rule is not None else "no monitor has looked yet"
    # The rule is insufficient, too, where a move is withheld that a short baseline does not allow to judge.
    judged = any(word.state == "ok" for word in view.drifts.values()) and (rule is None or rule.state != "insufficient")
    return Headline("ok" if judged else "unknown", "ok" if judged else "can't tell", told)


def _plain(word: StateWord) -> str:
    return word.what.removeprefix(f"{word.pipeline}: ")


def _ranked(view: PipelineView) -> list[DriftWord]:
    """What drifts first, each in the order of explanation; the revision that was judged last leads."""
    words = view.drifts.values()
    return sorted(
        words,
        key=lambda word: (word.state != "drift", -word.time_ms, word.revision, _MONITORS.get(word.monitor, (99,))[0]),
    )


def _starts(view: PipelineView, length_ms: int, now_ms: int) -> list[int]:
    """The starts of all windows from the first one that is known, or an hour's, up to now."""
    known = [start_ms for start_ms, _ in view.points[length_ms]]
    end = (now_ms - WRITTEN_MS) // length_ms * length_ms  # the window of now has not ended, and is not written
    first = max(min(known, default=end), end - KEEP[length_ms] * length_ms)
    return list(range(min(first, end - LEAST_WINDOWS * length_ms), max(end, max(known, default=0) + 1), length_ms))


def _series(view: PipelineView, length_ms: int, revision: str, starts: Sequence[int]) -> Series:
    saved = view.baselines.get(revision)
    calibration = saved.calibration if saved is not None else None
    points = [view.points[length_ms].get((start_ms, revision)) for start_ms in starts]
    told = [point for point in points if point is not None]

    def column(name: str) -> list[float | None]:
        return [None if point is None else _rounded(getattr(point, name)) for point in points]

    columns = {name: column(name) for name in ("rate", "dead_letter_share", "p50_ms", "p99_ms", "chars")}
    columns["confidence"] = column("mean_confidence")
    columns["estimated_accuracy"] = [
        None if point is None else _rounded(expected(point.confidence, calibration)) for point in points
    ]
    hours = [view.hours.get((start_ms // HOUR_MS * HOUR_MS, revision)) for start_ms in starts]
    metric = next((hour.metric for hour in reversed(hours) if hour is not None), "")
    columns["realised"] = [None if hour is None or hour.metric != metric else _rounded(hour.value) for hour in hours]
    columns["coverage"] = [None if hour is None else _rounded(hour.coverage) for hour in hours]
    return Series(
        revision=revision,
        model=told[-1].model if told else "",
        results=sum(point.results for point in told),
        columns=columns,
        labels=_labels(points),
        metric=metric_words(metric) if metric else "",
    )


def _quality(view: PipelineView) -> list[Graded]:
    """The revisions that have feedback, the one with the newest first."""
    newest: dict[str, int] = {}
    for start_ms, revision in view.days:
        newest[revision] = max(start_ms, newest.get(revision, 0))
    ranked = sorted(newest, key=lambda revision: (-newest[revision], revision))
    return [graded(each, [word for (_, own), word in view.days.items() if own == each]) for each in ranked]


def _labels(points: Sequence[Point | None]) -> dict[str, list[float | None]]:
    total = Counter[str]()
    for point in points:
        if point is not None:
            for label, share in point.labels.items():
                total[label] += round(share * point.results * 1000)
    ranked = [label for label, _ in sorted(total.items(), key=lambda one: (-one[1], one[0])) if label][:MOST_LABELS]
    found: dict[str, list[float | None]] = {}
    for label in ranked:
        found[label] = [None if not (point and point.labels) else point.labels.get(label, 0.0) for point in points]
    if len(total) > len(ranked):
        found[""] = [
            None if not (point and point.labels) else 1 - sum(point.labels.get(label, 0.0) for label in ranked)
            for point in points
        ]
    return {label: [_rounded(share) for share in shares] for label, shares in found.items()}


def _bars(word: DriftWord) -> Bars:
    kind, bars = _shown(word)
    return Bars(
        revision=word.revision,
        monitor=word.monitor,
        kind=kind,
        state=word.state,
        against=word.against,
        since_ms=word.since_ms,
        effect=word.effect,
        floor=word.floor,
        n=word.n,
        n_min=word.n_min,
        what=word.what,
        bars=bars[:MOST_BARS],
        left_out=max(0, len(bars) - MOST_BARS),
    )


def _shown(word: DriftWord) -> tuple[str, list[tuple[str, float, float]]]:
    """Both histograms side by side: categories by their share, bins of numbers by their place."""
    keys = list(dict.fromkeys([*word.before, *word.after]))
    bars = [(key, word.before.get(key, 0.0), word.after.get(key, 0.0)) for key in keys]
    known = _MONITORS.get(word.monitor)
    if known is None or known[1].kind != "histogram" or not all(_is_whole(key) for key in keys):
        ranked = sorted(bars, key=lambda bar: (-max(bar[1:]), bar[0]))
        return known[1].kind if known is not None else "categories", ranked
    unit = known[1].unit
    in_order = sorted(bars, key=lambda bar: int(bar[0]))
    return "histogram", [(f"{unit(int(key)):.3g}", before, after) for key, before, after in in_order]


def _is_whole(key: str) -> bool:
    return key.removeprefix("-").isascii() and key.removeprefix("-").isdecimal()


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
