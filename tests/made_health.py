"""A day of model health that is made up, as the health app would write it: all of it is real but the reports.

Complaints become more frequent in the last hour and a half, after a new revision had answered for half a day.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from streamer.core.health.alerts.drifts import Drifts
from streamer.core.health.evaluation.certainty import share_interval
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.confusion import Confusion
from streamer.core.health.quality.counts import Count
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import DAY_MS, FIVE_MINUTES_MS, HOUR_MS, KEEP, Fold
from streamer.core.health.words import VERSION, QualityWord, StateWord, WindowWord, Word
from streamer.health.baselines import taken
from tests.health_kit import histogram, report

SHARES = {"praise": 34, "question": 27, "complaint": 12, "order": 9, "spam": 7, "refund": 5, "thanks": 4, "other": 2}
MOVED = {**SHARES, "complaint": 27, "praise": 24, "question": 22}
RECORDS = 700
OLD, NEW = "4be01c77" + "0" * 56, "9d2f5a10" + "1" * 56
HOURS = 20


def words(pipeline: str, now_ms: int, *, drifts: bool = True, feedback: bool = True) -> Iterator[tuple[str, Word]]:
    """What stands on the topic, by key."""
    fold, judged = _fold(pipeline, now_ms, drifts=drifts), Drifts(lambda _: 1.0)
    word = taken(fold, pipeline, now_ms - 10 * HOUR_MS, now_ms - 3 * HOUR_MS, now_ms - 2 * HOUR_MS, steady=True)
    if feedback:
        counts: list[Count] = [4, 4, 6, 6, 8, 10, 12, 16, 20, 40, 60, 80, 90, 120, 160, 220, 300, 420, 600, 900]
        right: list[Count] = [round(count * (at + 1.5) / 22) for at, count in enumerate(counts)]
        word.calibration = Calibration(counts, right, [count * (at + 0.5) / 20 for at, count in enumerate(counts)])
    judged.baselines[word.key] = word
    judged.look(fold, pipeline, now_ms)
    yield word.key, word
    for length_ms in (FIVE_MINUTES_MS, HOUR_MS):
        for window in fold.windows(pipeline, length_ms):
            if window.end_ms > now_ms:
                continue
            said = WindowWord(
                pipeline=pipeline,
                revision=window.revision,
                start_ms=window.start_ms,
                length_ms=length_ms,
                window=window,
            )
            yield said.key, said
    yield from judged.words([pipeline]).items()
    if feedback:
        yield from _quality(pipeline, now_ms)
    told = judged.told(pipeline)
    for rule, metric, firing, what in (
        ("drift", "drifting_monitors", drifts, told.what),
        ("dead-letters", "dead_letter_share", False, f"{pipeline}: dead_letter_share 0.4 %, below 5 %"),
        ("latency", "latency_p99_ms", False, f"{pipeline}: latency_p99_ms 160 ms, below 60 s"),
    ):
        state = StateWord(
            version=VERSION,
            pipeline=pipeline,
            rule=rule,
            metric=metric,
            state="firing" if firing else "ok",
            since_ms=now_ms - HOUR_MS,
            time_ms=now_ms,
            threshold=1,
            severity="ticket",
            what=what,
        )
        yield state.key, state


def _fold(pipeline: str, now_ms: int, *, drifts: bool) -> Fold:
    fold, chance = Fold(KEEP), random.Random(pipeline)
    usual, moved = (
        [_measures(chance, shares, steep) for _ in range(12)] for shares, steep in ((SHARES, 7), (MOVED, 4))
    )
    end = now_ms // FIVE_MINUTES_MS
    for at in range(HOURS * 12):
        number = end - HOURS * 12 + at
        dead = chance.randrange(5)
        fold.add(
            report(
                number * FIVE_MINUTES_MS + 1_000,
                number * 10_000,
                number * 10_000 + RECORDS + dead - 1,
                pipeline=pipeline,
                revision=OLD if at < 8 * 12 else NEW,
                results=RECORDS,
                dead_letters={"decode.json": dead} if dead else {},
                scripts={"latin": RECORDS - 20, "cyrillic": 20},
                **chance.choice(moved if drifts and at >= HOURS * 12 - 18 else usual),
            )
        )
    return fold


def _measures(chance: random.Random, shares: dict[str, int], steep: int) -> dict[str, Any]:
    """What a stretch of five minutes may look like."""
    bins = [0] * 20
    for _ in range(RECORDS):
        bins[min(19, int(20 * chance.betavariate(steep, 2)))] += 1
    return {
        "labels": Counter(chance.choices(list(shares), list(shares.values()), k=RECORDS)),
        "confidence": bins,
        "text_chars": histogram(*chance.choices((25, 32, 40, 50, 63, 79, 100, 126, 159, 200), k=RECORDS)),
        "latency_ms": histogram(*chance.choices((20, 25, 32, 40, 50, 63, 79, 159), k=RECORDS)),
    }


def _quality(pipeline: str, now_ms: int) -> Iterator[tuple[str, Word]]:
    """What people said of two days, and of each of the last hours."""
    chance = random.Random(pipeline)
    today_ms, hour_ms = (now_ms // length_ms * length_ms for length_ms in (DAY_MS, HOUR_MS))
    hours = [(hour_ms - at * HOUR_MS, HOUR_MS, 60) for at in range(1, 11)]
    for start_ms, length_ms, labels in (*hours, (today_ms, DAY_MS, 400), (today_ms - DAY_MS, DAY_MS, 500)):
        quality = Quality(answered=labels, confusion=Confusion(), calibration=Calibration())
        assert quality.confusion is not None and quality.calibration is not None
        for truth in chance.choices(list(SHARES), list(SHARES.values()), k=labels):
            confidence = chance.betavariate(7, 2)
            right = chance.random() < confidence - 0.06
            quality.confusion.add(truth, truth if right else chance.choice(list(SHARES)[:4]))
            quality.calibration.add(confidence, right)
        metrics = {name: value for name, value in quality.metrics().items() if value is not None}
        word = QualityWord(
            pipeline=pipeline,
            revision=NEW,
            start_ms=start_ms,
            length_ms=length_ms,
            labels=labels,
            unjudged=3,
            results=length_ms // 430,
            coverage=labels / (length_ms / 430),
            lag_p50_s=1_300,
            lag_p90_s=7_000,
            metrics=metrics,
            accuracy_interval=tuple(share_interval(quality.confusion.right, labels)),  # type: ignore[arg-type]
            confusion=quality.confusion.cells,
            reliability=quality.calibration.table(),
        )
        yield word.key, word
