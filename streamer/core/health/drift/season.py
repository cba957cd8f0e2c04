"""The same hour of the days before: a baseline that moves with the hour of the day, from the windows of a week."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec

from streamer.core.health.drift.baseline import SEASON_DAYS, Baseline, same_hour
from streamer.core.health.windows.fold import DAY_MS, HOUR_MS
from streamer.core.health.windows.window import Window
from streamer.core.report import Histogram

LEAST_DAYS: Final = 3
"""Fewer days do not tell how far days lie apart, and every other day would look like drift."""

KEEP_MS: Final = SEASON_DAYS * DAY_MS + HOUR_MS


class Season:
    """The windows of five minutes of the last week, by pipeline."""

    def __init__(self) -> None:
        self._windows: dict[str, dict[tuple[int, str], Window]] = defaultdict(dict)
        self._known: dict[str, tuple[int, Baseline | None]] = {}

    def take(self, window: Window) -> None:
        """Keep a window; one that comes again replaces what was known of it. What no monitor reads is left out."""
        embedding, known = window.embedding, self._known.get(window.pipeline)
        if known is not None and (hours := known[0] - window.start_ms // HOUR_MS) and hours % 24 == 0:
            del self._known[window.pipeline]
        self._windows[window.pipeline][window.start_ms, window.revision] = msgspec.structs.replace(
            window,
            ranges={},
            latency_ms=Histogram([], 0, 0),
            embedding=embedding and msgspec.structs.replace(embedding, sum=b""),
        )

    def reference(self, pipeline: str, now_ms: int) -> Baseline | None:
        """The baseline of this hour of the day; None where too few days are known."""
        hour = now_ms // HOUR_MS
        known = self._known.get(pipeline)
        if known is None or known[0] != hour:
            self._forget(pipeline, now_ms)
            windows = [one for one in same_hour(self._windows[pipeline].values(), now_ms) if one.results]
            days = {one.start_ms // DAY_MS for one in windows}
            known = self._known[pipeline] = hour, Baseline.of(windows) if len(days) >= LEAST_DAYS else None
        return known[1]

    def results(self, pipeline: str, revision: str) -> tuple[int, int]:
        """How many windows with results of this revision are known, and how many results."""
        found = [one.results for one in self._windows[pipeline].values() if one.revision == revision and one.results]
        return len(found), sum(found)

    def _forget(self, pipeline: str, now_ms: int) -> None:
        windows = self._windows[pipeline]
        self._windows[pipeline] = {key: one for key, one in windows.items() if key[0] >= now_ms - KEEP_MS}
