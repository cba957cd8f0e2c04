"""What is known of model health now, for who writes it down: from the health topic, or where no app has written there,
from the reports."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from streamer.config.load import Config
from streamer.core.health.alerts.alerts import judge
from streamer.core.health.alerts.drifts import Drifts
from streamer.core.health.alerts.rules import DEFAULTS
from streamer.core.health.pages.view import KEEP, HealthView
from streamer.core.health.windows.fold import DAY_MS, Fold
from streamer.core.health.words import BaselineWord, decode
from streamer.errors import UsageError
from streamer.health.summary.read import read_since
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect, describe

BACK_MS: Final = DAY_MS
"""How far back reports are read."""


def gathered(config: Config, names: Collection[str], now_ms: int) -> tuple[HealthView, str]:
    """What is known of these pipelines or of all, and the topic that says so. Raises StreamerError."""
    topic = config.health.topic
    view, baselines = HealthView(), dict[str, BaselineWord]()
    if describe(connect(config.kafka), config.kafka, [topic])[topic] is not None:
        with Reader(config.kafka, [topic]) as reader:
            for record in reader.read_until_end():
                key, value = (record.key() or b"").decode(errors="replace"), record.value()
                if not view.wants(key, len(value or b""), now_ms):
                    continue
                word = decode(value)
                if word is not None or value is None:
                    view.take(key, word)
                    baselines.pop(key, None)
                if isinstance(word, BaselineWord):
                    baselines[key] = word
    spoken = {name for name, one in view.pipelines.items() if any(one.points.values())}
    if spoken and spoken >= set(names):
        return view, topic
    return _judged(config, names, now_ms, baselines), config.telemetry.reports


def _judged(config: Config, names: Collection[str], now_ms: int, baselines: dict[str, BaselineWord]) -> HealthView:
    """The same from the reports of a day, judged here by the same rules as the app's."""
    if not config.telemetry.reports:
        raise UsageError("the configuration has no topic for reports, which describe the models: set telemetry.reports")
    fold = Fold()
    there = read_since(config.kafka, config.telemetry.reports, now_ms - BACK_MS, fold, names)
    for name in names:
        if name not in config.pipelines and name not in there:
            known = ", ".join(sorted({*config.pipelines, *there})) or "none"
            raise UsageError(f"neither the configuration nor a report knows of a pipeline {name}; there are: {known}")
    view, drifts = HealthView(), Drifts(lambda _: config.health.false_alarms_per_month)
    drifts.baselines = baselines
    for word in baselines.values():
        if not names or word.pipeline in names:
            view.take(word.key, word)
    for name in fold.pipelines:
        for length_ms in KEEP:
            for window in fold.windows(name, length_ms):
                view.add(window)
        drifts.look(fold, name, now_ms)
        told = drifts.told(name)
        state = judge(DEFAULTS["drift"], name, told.measured, now_ms, None)
        view.take(state.key, msgspec.structs.replace(state, what=told.what))
        for key, one in drifts.words([name]).items():
            view.take(key, one)
    return view
