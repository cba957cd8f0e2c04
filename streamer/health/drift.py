"""Drift in the app: follows the saved baselines on the topic, judges what has closed, and tells what has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import msgspec

from streamer.config.load import Config
from streamer.core.health.alerts.drifts import BACK_MS, Drifts, Told
from streamer.core.health.alerts.judged import Judged
from streamer.core.health.drift.estimate import estimates
from streamer.core.health.drift.season import KEEP_MS
from streamer.core.health.keeper import Keeper
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS, Fold
from streamer.core.health.windows.window import Window
from streamer.core.health.words import BaselineWord, DriftWord, WindowWord, Word
from streamer.errors import StreamerError
from streamer.health.app import Page
from streamer.health.baselines import about
from streamer.health.pages import json_page
from streamer.kafka.health_topics import Followed
from streamer.telemetry.health_metrics import HealthMetrics

log = logging.getLogger(__name__)

ON_TOPIC_MS: Final = 30 * DAY_MS
"""How long windows of minutes stay on the topic, which would else grow for ever. Longer ones are few."""
MOST_AT_ONCE: Final = 10_000

Change = tuple[str, DriftWord | None]
"""A key of the topic, and the word to write there; None takes back what stands there."""


class Drift:
    """The monitors of all pipelines; `told` is how each pipeline stands, by its name."""

    def __init__(self, config: Config, metrics: HealthMetrics) -> None:
        self._config, self._metrics = config, metrics
        self._followed: Followed | None = None
        self._said: dict[str, DriftWord] = {}
        self._old: set[str] = set()
        self.drifts = Drifts(self.monthly)
        self.told: dict[str, Told] = {}

    def words(self) -> Iterator[tuple[str, Word | None]]:
        """What came to the topic since the last call; the first one reads it from its beginning. Blocks; raises
        StreamerError."""
        if self._followed is None:
            self._followed = Followed(self._config.kafka, self._config.health.topic)
        yield from self._followed.words()

    def take(self, key: str, word: Word | None, now_ms: int) -> None:
        """Know what stands on the topic."""
        if isinstance(word, BaselineWord):
            self.drifts.baselines[key] = word
        elif isinstance(word, DriftWord):
            self._said[key] = word
        elif isinstance(word, WindowWord):
            if word.length_ms == FIVE_MINUTES_MS and word.start_ms >= now_ms - KEEP_MS:
                with suppress(msgspec.ValidationError):  # of a version to come
                    self.drifts.season.take(msgspec.convert(word.window, Window))
            elif word.length_ms < HOUR_MS and word.start_ms < now_ms - ON_TOPIC_MS:
                self._old.add(key)
        elif word is None:
            self.drifts.baselines.pop(key, None)
            self._said.pop(key, None)
            self._old.discard(key)

    def news(self) -> list[tuple[str, BaselineWord | None]]:
        """The baselines that came since, to be taken, and the keys that were taken back. Blocks."""
        try:
            return [(key, word) for key, word in self.words() if word is None or isinstance(word, BaselineWord)]
        except Exception as error:  # nothing else waits for it; the next call reads all of it again
            self.close()
            self._metrics.failure("look_up")
            why = str(error) if isinstance(error, StreamerError) else type(error).__name__
            log.warning("baselines can't be read", extra={"data": {"error": why}})
            return []

    def closed(self, windows: Iterable[WindowWord]) -> None:
        """Windows that have ended: later days are held against them."""
        for word in windows:
            if word.length_ms == FIVE_MINUTES_MS:
                self.drifts.season.take(word.window)

    async def look(self, keeper: Keeper, now_ms: int) -> list[Change]:
        """Judge what has closed, one pipeline after the other. What differs from what stands on the topic is to be
        written, then `written`; windows that were there for long are taken back."""
        for name in keeper.pipelines:
            try:
                self.drifts.look(keeper.fold, name, now_ms)
                self.told[name] = self.drifts.told(name)
            except Exception as error:  # of one pipeline; windows, rules and other pipelines go on
                self._metrics.failure("drift")
                log.error("drift can't be judged", extra={"data": {"pipeline": name, "error": type(error).__name__}})
            await asyncio.sleep(0)
        words = self.drifts.words(keeper.pipelines)
        self._metrics.drift(
            {
                (word.pipeline, word.revision, word.monitor): word.state == "drift"
                for word in words.values()
                if word.state != "insufficient"
            },
            {
                (one.pipeline, one.revision): accuracy
                for name in keeper.pipelines
                for one in self.drifts.judged(name)
                if (accuracy := self.drifts.accuracy(one)) is not None
            },
        )
        gone: list[Change] = [(key, None) for key in self._said if key not in words]
        gone += [(key, None) for key in islice(self._old, MOST_AT_ONCE)]
        return [*gone, *((key, word) for key, word in words.items() if self._said.get(key) != word)]

    def written(self, changes: Iterable[Change]) -> None:
        """These stand on the topic now."""
        for key, word in changes:
            if word is None:
                self._said.pop(key, None)
                self._old.discard(key)
            else:
                self._said[key] = word

    def page(self, fold: Fold, query: Mapping[str, str]) -> Page:
        """/drift?pipeline=NAME: how each pipeline stands, and of each revision in service what its monitors say."""
        wanted, found = query.get("pipeline"), {}
        for name in sorted({*self.told, *self._config.pipelines}):
            if wanted in (None, name):
                told = self.told.get(name) or self.drifts.told(name)
                found[name] = {
                    "drifting_monitors": told.measured.value,
                    "insufficient_monitors": told.measured.unknown,
                    "what": told.what,
                    "false_alarms_per_month": self.monthly(name),
                    "revisions": [self._described(one, fold) for one in self.drifts.judged(name)],
                }
        return json_page({"pipelines": found})

    def close(self) -> None:
        """Follow the topic no longer."""
        if self._followed is not None:
            self._followed.close()
            self._followed = None

    def _described(self, one: Judged, fold: Fold) -> dict[str, Any]:
        known = self.drifts.baseline(one.pipeline, one.revision)
        windows = [
            window
            for window in fold.windows(one.pipeline, FIVE_MINUTES_MS, one.until_ms - BACK_MS)
            if window.revision == one.revision and window.end_ms <= one.until_ms
        ]
        return {
            "revision": one.revision,
            "judged_until_ms": one.until_ms,
            "baseline": known and about(known),
            "same_hour": one.has_season,
            "estimated_accuracy": estimates(windows, known.calibration if known is not None else None),
            "monitors": one.words(),
        }

    def monthly(self, pipeline: str) -> float:
        """How many false alarms a month a pipeline may raise."""
        own = self._config.pipelines.get(pipeline)
        return (own and own.false_alarms_per_month) or self._config.health.false_alarms_per_month
