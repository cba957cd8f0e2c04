"""Measures rules about labels in the app."""

from __future__ import annotations

import time
from typing import Final

from streamer.core.health.alerts.drifts import Told
from streamer.core.health.alerts.rated import rated
from streamer.core.health.alerts.rules import Rule
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import HOUR_MS
from streamer.core.health.words import WindowKey
from streamer.health.drift import Drift
from streamer.health.feedback.labels import Labels

REST: Final = 200
"""Labels are summed again after this many times as long as the last sum took: many labels must not hold up the app."""


class Rated:
    """What `labels` say of the revisions in service, as far as `drift` knows them; of all where it knows none."""

    def __init__(self, labels: Labels, drift: Drift) -> None:
        self._labels, self._drift = labels, drift
        self._sums: dict[tuple[str, int], tuple[float, dict[str, Quality]]] = {}

    def told(self, rule: Rule, pipeline: str, now_ms: int, *, firing: bool) -> Told | None:
        """What a rule measures; None where no feedback is read."""
        if not self._labels.topic:
            return None
        drifts = self._drift.drifts
        sums = self._summed(pipeline, rule.over_s, now_ms)
        serving = {one.revision for one in drifts.judged(pipeline)} or set(sums)
        words = {revision: drifts.baseline(pipeline, revision) for revision in sums}
        return rated(
            rule,
            pipeline,
            {revision: quality for revision, quality in sums.items() if revision in serving},
            {name: word.calibration for name, word in words.items() if word is not None and word.calibration},
            self._drift.monthly(pipeline),
            firing=firing,
        )

    def _summed(self, pipeline: str, over_s: int, now_ms: int) -> dict[str, Quality]:
        """By revision: the labels of events from that many seconds ago on, in whole hours."""
        began = time.monotonic()
        until, sums = self._sums.get((pipeline, over_s), (0.0, {}))
        if began < until:
            return sums
        realised = self._labels.joiner.realised
        start_ms = (now_ms - over_s * 1000) // HOUR_MS * HOUR_MS
        length_ms = now_ms // HOUR_MS * HOUR_MS + HOUR_MS - start_ms
        keys = [
            WindowKey(pipeline, revision, start_ms, length_ms) for revision in realised.pipelines().get(pipeline, ())
        ]
        sums = {key.revision: grade.quality for key in keys if (grade := realised.grade(key)) is not None}
        ended = time.monotonic()
        self._sums[pipeline, over_s] = ended + REST * (ended - began), sums
        return sums
