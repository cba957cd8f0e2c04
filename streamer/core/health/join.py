"""Feedback joined with results: what became of each message, how late labels come, how many results have one."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from typing import Any, Final, Literal, NamedTuple

import msgspec

from streamer.core.health.feedback import Place, Said
from streamer.core.report import BOUNDS, percentile

Outcome = Literal["matched", "early", "late", "duplicate", "unknown", "no_result", "refused"]

MAX_SEEN: Final = 200_000
"""Places that are remembered, so that feedback on them is known as repeated: about 60 MB."""
MAX_WAITING: Final = 50_000
AGAIN_MS: Final = 5_000
"""After so long a result that was not there is looked up again; twice as long each time, up to a minute."""
_LONGEST_MS: Final = 60_000


class Source(msgspec.Struct, frozen=True):
    """The event of a result."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int = -1


class Revision(msgspec.Struct, frozen=True):
    """The model of a result."""

    revision: str


class Result(msgspec.Struct, frozen=True):
    """What is needed of a result."""

    pipeline: str
    model: Revision
    output: Any
    source: Source


class Absent(NamedTuple):
    """No result of an event: not yet, or never, as it became a dead letter, was skipped, or is deleted."""

    yet: bool


class Waiting(NamedTuple):
    """Feedback whose result is to be looked up at `at_ms`, or later."""

    said: Said
    at_ms: int
    attempts: int = 0


class Tally(msgspec.Struct):
    """What came of a pipeline's feedback. `waiting` are those whose result is not there yet. `agreed` counts the
    matched labels that the model gave, of `labels` in all; a duplicate that is newer takes the place of what was said
    before. `places` are the results that have feedback."""

    outcomes: dict[str, int] = {}
    waiting: int = 0
    labels: int = 0
    agreed: int = 0
    places: int = 0
    lag_s: dict[int, int] = {}
    max_lag_s: int = 0

    def lag(self, share: float) -> int | None:
        """The time from event to label in seconds that this share of labels keeps, None without any."""
        return percentile(self.lag_s, share, self.max_lag_s)


class _Known(NamedTuple):
    time_ms: int
    agreed: bool | None


class Joiner:
    """Takes feedback and what was found of its results. It has no clock."""

    def __init__(self, horizon_s: int, max_seen: int = MAX_SEEN) -> None:
        self._horizon_ms = horizon_s * 1000
        self._max_seen = max_seen
        self._seen: OrderedDict[Place, _Known] = OrderedDict()
        self._waiting: dict[Place, Waiting] = {}
        self.tallies: dict[str, Tally] = {}
        self.fresh = 0
        """Feedback that was not looked up yet: who takes more is to wait while this is high."""

    def count(self, pipeline: str, outcome: Outcome) -> Outcome:
        """Count an outcome; "" is nobody's pipeline."""
        outcomes = self.tally(pipeline).outcomes
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return outcome

    def tally(self, pipeline: str) -> Tally:
        """What came of a pipeline's feedback."""
        return self.tallies.setdefault(pipeline, Tally())

    def take(self, place: Place, said: Said, now_ms: int) -> Outcome | None:
        """New feedback; None where its result is to be looked up next. Of several on one event the last by its time
        counts, in whatever order they come; of one time the one that comes last."""
        known, waits = self._seen.get(place), self._waiting.get(place)
        if known is not None and said.time_ms < known.time_ms:
            return self.count(place.pipeline, "duplicate")
        if waits is not None:
            if said.time_ms >= waits.said.time_ms:
                self._waiting[place] = waits._replace(said=said)
            return self.count(place.pipeline, "duplicate")
        self._waiting[place] = Waiting(said, now_ms)
        self.fresh += 1
        return None

    def wanted(self, now_ms: int, limit: int) -> list[Place]:
        """The places whose results are to be looked up now, in order, `limit` at most."""
        due = [place for place, waits in self._waiting.items() if waits.at_ms <= now_ms][:limit]
        return sorted(due)

    def found(self, place: Place, result: Result | Absent, now_ms: int) -> Outcome | None:
        """What was found of a place; None for feedback that goes on waiting. Who is early is told so once, and gets an
        outcome later."""
        waits = self._waiting.pop(place)
        self.fresh -= waits.attempts == 0
        if isinstance(result, Absent):
            if not result.yet:
                return self.count(place.pipeline, "no_result")
            if now_ms - waits.said.time_ms > self._horizon_ms or len(self._waiting) >= MAX_WAITING:
                return self.count(place.pipeline, "unknown")
            pause_ms = min(AGAIN_MS * 2 ** min(waits.attempts, 8), _LONGEST_MS)
            self._waiting[place] = waits._replace(at_ms=now_ms + pause_ms, attempts=waits.attempts + 1)
            return None if waits.attempts else self.count(place.pipeline, "early")
        lag_ms = waits.said.time_ms - result.source.timestamp_ms
        if result.source.timestamp_ms >= 0 and lag_ms > self._horizon_ms:
            return self.count(place.pipeline, "late")
        return self._match(place, waits.said, result, max(lag_ms, 0) if result.source.timestamp_ms >= 0 else None)

    def count_waiting(self) -> None:
        """Set how many wait, by pipeline."""
        waiting = Counter(place.pipeline for place in self._waiting)
        for pipeline in {*self.tallies, *waiting}:
            self.tally(pipeline).waiting = waiting[pipeline]

    def _match(self, place: Place, said: Said, result: Result, lag_ms: int | None) -> Outcome:
        tally = self.tally(place.pipeline)
        agreed = _agreed(said, result)
        known = self._seen.pop(place, None)
        self._seen[place] = _Known(said.time_ms, agreed)
        if len(self._seen) > self._max_seen:
            self._seen.popitem(last=False)
        if known is not None and known.agreed is not None:
            tally.labels -= 1
            tally.agreed -= known.agreed
        if agreed is not None:
            tally.labels += 1
            tally.agreed += agreed
        if known is not None:
            return self.count(place.pipeline, "duplicate")
        tally.places += 1
        if lag_ms is not None:
            lag_s = lag_ms // 1000
            bound = BOUNDS[min(bisect_left(BOUNDS, lag_s), len(BOUNDS) - 1)]
            tally.lag_s[bound] = tally.lag_s.get(bound, 0) + 1
            tally.max_lag_s = max(tally.max_lag_s, lag_s)
        return self.count(place.pipeline, "matched")


def _agreed(said: Said, result: Result) -> bool | None:
    """Whether the model gave the label that is right; None where one of the two has none."""
    output = result.output
    given = output.get("label") if isinstance(output, dict) else None
    if said.feedback.label is None or not isinstance(given, str):
        return None
    return given == said.feedback.label
