"""Baselines of models: taken from the windows of a stretch of time, and kept on the health topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamer.config.load import Config
from streamer.core.health.alerts.drifts import enough, too_few
from streamer.core.health.drift.baseline import Baseline
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.windows.fold import FIVE_MINUTES_MS, Fold
from streamer.core.health.words import MAX_SNAPSHOT_BYTES, VERSION, BaselineWord, encode
from streamer.errors import DependencyError, UsageError
from streamer.kafka.health_topics import make_topics, read_words
from streamer.kafka.writer import Writer

FLUSH_S = 20.0


def taken(
    fold: Fold, pipeline: str, since_ms: int, until_ms: int, now_ms: int, *, revision: str = "", steady: bool = False
) -> BaselineWord:
    """The baseline of a pipeline's model in that stretch of time: of the revision whose digest begins so, by default of
    the one that answered last. `steady` says that its traffic is the same at all hours. Raises UsageError where too
    little was settled, or no such revision answered."""
    windows = [
        window
        for window in fold.windows(pipeline, FIVE_MINUTES_MS, since_ms)
        if window.end_ms <= until_ms and window.results
    ]
    if not windows:
        raise UsageError(f"{pipeline}: no result in that stretch of time; five minutes count once they are over")
    found = sorted({window.revision for window in windows if window.revision.startswith(revision)})
    if not found or (revision and len(found) > 1):
        there = ", ".join(sorted({window.revision for window in windows}))
        raise UsageError(f"{pipeline}: --revision {revision} names {len(found)} revisions; there are: {there}")
    chosen = found[0] if revision else max(windows, key=lambda window: window.last_ms).revision
    own = [window for window in windows if window.revision == chosen]
    results = sum(window.results for window in own)
    baseline = Baseline.of(own) if enough(len(own), results) else None
    if baseline is None:
        raise UsageError(f"{pipeline}: too little for a baseline: {too_few(len(own), results)}")
    return BaselineWord(
        version=VERSION,
        pipeline=pipeline,
        revision=chosen,
        model=own[-1].model,
        saved_ms=now_ms,
        length_ms=FIVE_MINUTES_MS,
        records=results,
        baseline=baseline,
        steady=steady,
    )


def calibrated(evaluation: bytes, file: str) -> tuple[str, Calibration]:
    """The revision and the calibration that an evaluation has measured, as `streamer evaluate --save-baseline` wrote
    them to `file`. Raises UsageError."""
    try:
        found = msgspec.json.decode(evaluation, type=dict[str, Any])
        quality = found.get("quality")
        sums = quality.get("calibration") if isinstance(quality, Mapping) else None
        calibration = None if sums is None else msgspec.convert(sums, Calibration)
        revision = msgspec.convert(found["revision"], str)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        raise UsageError(f"{file} is not an evaluation; `streamer evaluate --save-baseline` writes one") from None
    if calibration is None or not calibration.total:
        raise UsageError(f"{file} has no calibration; evaluate a model that gives its answers a confidence")
    return revision, calibration


def known(config: Config) -> dict[str, BaselineWord]:
    """The saved baselines by the keys of their words. Raises StreamerError."""
    found = read_words(config.kafka, config.health.topic)
    return {key: word for key, word in sorted(found.items()) if isinstance(word, BaselineWord)}


def write(config: Config, words: list[BaselineWord]) -> None:
    """Write them to the health topic, which is made where it is missing. Raises StreamerError."""
    values = [(word, encode(word)) for word in words]
    for word, value in values:
        if len(value) > MAX_SNAPSHOT_BYTES:
            raise UsageError(f"{word.pipeline}: the baseline takes {len(value):,} bytes, more than a record may have")
    topic = config.health.topic
    make_topics(config.kafka, config.telemetry.reports, {topic: {"cleanup.policy": "compact"}})
    with Writer(config.kafka) as writer:
        for word, value in values:
            writer.write(topic, value, key=word.key.encode())
        deliveries = writer.flush(FLUSH_S)
    if deliveries.pending or deliveries.failed:
        raise DependencyError(f"Kafka at {config.kafka.bootstrap_servers} did not take the baselines; try it again")


def about(word: BaselineWord) -> dict[str, Any]:
    """A saved baseline, without what it has learned."""
    return {
        "pipeline": word.pipeline,
        "revision": word.revision,
        "model": word.model,
        "saved_ms": word.saved_ms,
        "since_ms": word.baseline.since_ms,
        "until_ms": word.baseline.until_ms,
        "windows": word.baseline.windows,
        "records": word.records,
        "covers_a_week": word.baseline.covers_a_week,
        "steady": word.steady,
        "monitors": list(word.baseline.references),
        "calibrated": word.calibration is not None,
    }
