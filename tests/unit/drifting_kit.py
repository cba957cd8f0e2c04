"""A pipeline whose reports say that all is as usual, until they don't."""

from __future__ import annotations

from streamer.core.health.alerts.drifts import Drifts
from streamer.core.health.windows.fold import FIVE_MINUTES_MS, HOUR_MS, KEEP, Fold
from streamer.core.health.words import BaselineWord
from streamer.core.report import Histogram
from streamer.health.baselines import taken
from tests.health_kit import NOW_MS, report

RECORDS = 1_000


def fill(
    fold: Fold,
    start_ms: int,
    windows: int,
    positive: float = 0.6,
    *,
    records: int = RECORDS,
    revision: str = "r1",
    pipeline: str = "p",
) -> None:
    """Settle so many windows of five minutes, each with a report; the share of positive answers swings a little, and
    their confidence falls with it."""
    for at in range(windows):
        time_ms = start_ms + at * FIVE_MINUTES_MS
        number = time_ms // FIVE_MINUTES_MS
        count = round(records * positive) + (number * 7 % 5 - 2) * records // 150
        fold.add(
            report(
                time_ms,
                number * 10_000,
                number * 10_000 + records - 1,
                pipeline=pipeline,
                revision=revision,
                partition=1 if revision == "r1" else 2,
                labels={"positive": count, "negative": records - count},
                confidence=[0] * 10 + [records - count] + [0] * 8 + [count],
                text_chars=Histogram([(79, records // 2), (100, records - records // 2)], records * 80, 100),
            )
        )


def saved(fold: Fold, pipeline: str = "p", until_ms: int = NOW_MS - 2 * HOUR_MS, saved_ms: int = 1) -> BaselineWord:
    """The baseline of all windows up to then; every hour is like any other."""
    return taken(fold, pipeline, 0, until_ms, saved_ms, steady=True)


def closed(drifts: Drifts, fold: Fold, pipeline: str = "p") -> None:
    """What the app has said of windows is known to the season."""
    for window in fold.windows(pipeline, FIVE_MINUTES_MS):
        drifts.season.take(window)


def drifting(now_ms: int = NOW_MS) -> Drifts:
    """A baseline of three hours, and labels that moved half an hour ago."""
    fold, drifts = Fold(KEEP), Drifts(lambda _: 1.0)
    fill(fold, now_ms - 5 * HOUR_MS, 54)
    fill(fold, now_ms - HOUR_MS // 2, 6, 0.4)
    word = saved(fold, until_ms=now_ms - HOUR_MS)
    drifts.baselines[word.key] = word
    drifts.look(fold, "p", now_ms + 60_000)
    return drifts
