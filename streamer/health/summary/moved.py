"""What has moved in a stretch of time, against the time before it."""

from __future__ import annotations

from streamer.core.health.drift.baseline import LEAST_WINDOWS, Baseline
from streamer.core.health.drift.finding import Finding, alpha_of
from streamer.core.health.drift.watch import Watch
from streamer.core.health.windows.fold import FIVE_MINUTES_MS, Fold
from streamer.core.tally import plural
from streamer.health.summary.status import clock

FALSE_ALARMS_PER_MONTH = 1.0


def moved(fold: Fold, pipeline: str, revision: str, against_ms: int, since_ms: int, now_ms: int) -> tuple[str, ...]:
    """A sentence for each monitor that says drift of this revision since then, against the windows of five minutes from
    `against_ms` on; or one that nothing moved, or that it can't be told. Of other models' windows only what tells of
    texts is compared."""
    windows = fold.windows(pipeline, FIVE_MINUTES_MS, against_ms)
    baseline = Baseline.of(window for window in windows if window.end_ms <= since_ms)
    stretch = f"from {clock(against_ms, now_ms)} to {clock(since_ms, now_ms)}"
    if baseline is None:
        least = f"results in {LEAST_WINDOWS} stretches of five minutes"
        return (f"there is nothing to compare with: it takes {least} {stretch}",)
    alpha = alpha_of(FALSE_ALARMS_PER_MONTH, len(baseline.references), FIVE_MINUTES_MS)
    watch, found = Watch(), list[Finding]()
    for window in windows:
        if window.revision == revision and since_ms <= window.start_ms and window.end_ms <= now_ms:
            found = watch.look(window, baseline, alpha)
    if said := tuple(one.what for one in found if one.state == "drift"):
        return said
    few = [one.monitor for one in found if one.state == "insufficient"]
    if len(few) == len(found):
        return (f"too little was settled to say whether anything moved against the time {stretch}",)
    tail = f"; too few records to judge {', '.join(few)}" if few else ""
    return (f"nothing moved of {plural(len(found) - len(few), 'figure')}, against the time {stretch}{tail}",)
