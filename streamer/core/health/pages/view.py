"""What the health topic says, kept for pages: the last word on each thing, and windows as points of time series.

It is bounded: of each pipeline a day by five minutes and two weeks by the hour. It has no clock: times are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec

from streamer.core.health.pages.graded import main_metric
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.windows import figures
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS
from streamer.core.health.windows.window import Window
from streamer.core.health.words import BaselineWord, DriftWord, QualityWord, StateWord, WindowWord, Word

KEEP: Final[Mapping[int, int]] = {FIVE_MINUTES_MS: 288, HOUR_MS: 336}
"""How many windows of each length are kept of a pipeline: a day and two weeks."""
REVISIONS: Final = 4
"""Revisions that a window may have on average; with more, fewer windows are kept."""
LABELS: Final = 12
"""Labels of a window that are kept by name."""
DAYS: Final = 7
"""Days of quality that are kept, with their matrices."""
MAX_PIPELINES: Final = 1_000
MOST_WORDS: Final = 500
"""States, words on drift and baselines of a pipeline, of each: more revisions than that are not in service."""
LARGE_BYTES: Final = 20_000

_K = TypeVar("_K", bound=tuple[int, str])
_V = TypeVar("_V")
_W = TypeVar("_W")

_KEPT: Final = {"window": KEEP, "quality": {HOUR_MS: KEEP[HOUR_MS], DAY_MS: DAYS}}


class Point(NamedTuple):
    """A window of one revision. `labels` are counts, the rest of them as the label ""; `confidence` is in 20 bins."""

    model: str
    results: int
    rate: float
    dead_letter_share: float | None
    p50_ms: int | None
    p99_ms: int | None
    chars: float | None
    labels: dict[str, float]
    confidence: list[int] | None
    mean_confidence: float | None


class Hour(NamedTuple):
    """The quality of an hour: its main number by name, and the share of results that have a label."""

    metric: str
    value: float
    coverage: float | None


class Saved(msgspec.Struct, frozen=True):
    """A saved baseline, without what it has learned."""

    saved_ms: int
    since_ms: int
    until_ms: int
    records: int
    covers_a_week: bool
    calibration: Calibration | None


@dataclass(slots=True)
class PipelineView:
    """One pipeline. `points` are by length, then by start and revision; so are the `hours` and `days` of its quality;
    `baselines` are by revision, the others by key."""

    points: dict[int, dict[tuple[int, str], Point]] = field(default_factory=lambda: {each: {} for each in KEEP})
    states: dict[str, StateWord] = field(default_factory=dict)
    drifts: dict[str, DriftWord] = field(default_factory=dict)
    baselines: dict[str, Saved] = field(default_factory=dict)
    hours: dict[tuple[int, str], Hour] = field(default_factory=dict)
    days: dict[tuple[int, str], QualityWord] = field(default_factory=dict)

    @property
    def heard_ms(self) -> int:
        """When the app spoke of it for the last time, 0 if it has not."""
        ends = (start_ms + length_ms for length_ms, points in self.points.items() for start_ms, _ in points)
        said = [word.time_ms for word in self.states.values()] + [word.time_ms for word in self.drifts.values()]
        return max(*said, *ends, 0, 0)

    def revisions(self, length_ms: int) -> list[str]:
        """Those that have windows of this length, the one that answered last first."""
        lasts: dict[str, int] = {}
        for start_ms, revision in self.points[length_ms]:
            lasts[revision] = max(start_ms, lasts.get(revision, 0))
        return sorted(lasts, key=lambda revision: (-lasts[revision], revision))


class HealthView:
    """Takes the words on the topic in the order in which they stand there."""

    def __init__(self) -> None:
        self.pipelines: dict[str, PipelineView] = {}

    @staticmethod
    def is_window(key: str) -> bool:
        """Whether this is the key of a window, or of its quality."""
        parts = key.rsplit("/", 4)
        return len(parts) == 5 and parts[1] in _KEPT and parts[3].isdecimal() and parts[4].isdecimal()

    @staticmethod
    def wants(key: str, size: int, now_ms: int) -> bool:
        """Whether a record of this key, whose value has so many bytes, is worth decoding: most of the topic are windows
        that are not shown, and snapshots."""
        if not HealthView.is_window(key):
            return size < LARGE_BYTES or not key.startswith(("snapshot/", "feedback/"))
        _, kind, _, length, start = key.rsplit("/", 4)
        kept, length_ms, start_ms = _KEPT[kind], int(length), int(start)
        return length_ms in kept and start_ms >= now_ms - kept[length_ms] * length_ms

    def take(self, key: str, word: Word | None) -> None:
        """Know a word; None takes back what stands at its key."""
        if word is None:
            self._forget(key)
        elif isinstance(word, WindowWord):
            if word.length_ms in KEEP:
                with suppress(msgspec.ValidationError):  # of a version to come
                    window = word.window
                    self.add(window if isinstance(window, Window) else msgspec.convert(window, Window))
        elif isinstance(word, StateWord):
            _know(self._of(word.pipeline).states, key, word)
        elif isinstance(word, DriftWord):
            _know(self._of(word.pipeline).drifts, key, word)
        elif isinstance(word, QualityWord):
            self._grade(self._of(word.pipeline), word)
        elif isinstance(word, BaselineWord):
            known = word.baseline
            saved = Saved(
                word.saved_ms, known.since_ms, known.until_ms, word.records, known.covers_a_week, word.calibration
            )
            _know(self._of(word.pipeline).baselines, word.revision, saved)

    def add(self, window: Window) -> None:
        """Know a window of a length that is kept; it takes the place of what was known of it."""
        points = self._of(window.pipeline).points[window.length_ms]
        points[window.start_ms, window.revision] = Point(
            window.model,
            window.results,
            figures.rate(window),
            figures.dead_letter_share(window),
            figures.latency_ms(window, 0.5),
            figures.latency_ms(window, 0.99),
            figures.mean_chars(window),
            figures.label_shares(window, LABELS),
            window.confidence,
            figures.mean_confidence(window),
        )
        most = KEEP[window.length_ms] * REVISIONS
        if len(points) > most:
            del points[min(points)]

    def put_before(self, older: HealthView) -> None:
        """Know what was said before all of this; what was said later stands. What was taken back later is not among
        the older."""
        for name, before in older.pipelines.items():
            mine = self._of(name)
            for length_ms, points in before.points.items():
                mine.points[length_ms] = _newest({**points, **mine.points[length_ms]}, KEEP[length_ms] * REVISIONS)
            mine.states = _latest(before.states, mine.states)
            mine.drifts = _latest(before.drifts, mine.drifts)
            mine.baselines = _latest(before.baselines, mine.baselines)
            mine.hours = _newest({**before.hours, **mine.hours}, KEEP[HOUR_MS] * REVISIONS)
            mine.days = _newest({**before.days, **mine.days}, DAYS * REVISIONS)

    def _of(self, pipeline: str) -> PipelineView:
        if pipeline not in self.pipelines and len(self.pipelines) >= MAX_PIPELINES:
            return PipelineView()  # nobody sees it
        return self.pipelines.setdefault(pipeline, PipelineView())

    def _grade(self, view: PipelineView, word: QualityWord) -> None:
        key = word.start_ms, word.revision
        if word.length_ms == DAY_MS:
            view.days[key] = word
            if len(view.days) > DAYS * REVISIONS:
                del view.days[min(view.days)]
        elif word.length_ms == HOUR_MS and (found := main_metric(word)) is not None:
            view.hours[key] = Hour(*found, word.coverage)
            if len(view.hours) > KEEP[HOUR_MS] * REVISIONS:
                del view.hours[min(view.hours)]

    def _forget(self, key: str) -> None:
        for name, view in self.pipelines.items():
            if key.startswith(f"{name}/"):
                view.states.pop(key, None)
                view.drifts.pop(key, None)
                view.baselines.pop(key.removeprefix(f"{name}/baseline/"), None)


def _know(found: dict[str, _W], key: str, word: _W) -> None:
    """A word by its key; beyond `MOST_WORDS` the one that was said longest ago goes."""
    found.pop(key, None)
    found[key] = word
    if len(found) > MOST_WORDS:
        del found[next(iter(found))]


def _latest(before: dict[str, _W], later: dict[str, _W]) -> dict[str, _W]:
    found = {**{key: word for key, word in before.items() if key not in later}, **later}
    return dict(islice(found.items(), max(0, len(found) - MOST_WORDS), None))


def _newest(found: dict[_K, _V], most: int) -> dict[_K, _V]:
    return {key: found[key] for key in sorted(found)[-most:]}
