"""Feedback joined with results: what became of each message, how late labels come, how many results have one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

import msgspec

from streamer.core.health.feedback.feedback import Place, Said
from streamer.core.health.feedback.hearing import Hearing
from streamer.core.health.feedback.realised import MAX_KEPT, Kept, Realised
from streamer.core.health.windows.fold import DAY_MS

Outcome = Literal["matched", "early", "late", "duplicate", "unknown", "no_result", "refused"]

_NONE: Final[Mapping[str, int]] = {}
MAX_WAITING: Final = 50_000
AGAIN_MS: Final = 1_000
"""After so long a result that was not there is looked up again; twice as long each time, up to a minute."""
_LONGEST_MS: Final = 60_000
FAILED_MS: Final = 30_000
"""After so long a result whose topic could not be read is looked up again."""


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
    task: str = ""


class Absent(NamedTuple):
    """No result of an event: not yet, or never, as it became a dead letter, was skipped, or is deleted."""

    yet: bool


class Waiting(NamedTuple):
    """Feedback whose result is to be looked up at `at_ms`, or later. `put_off` says that it could not be looked up
    before."""

    said: Said
    at_ms: int
    attempts: int = 0
    put_off: bool = False

    @property
    def fresh(self) -> bool:
        """Whether nobody has tried to look its result up."""
        return self.attempts == 0 and not self.put_off


class Tally(msgspec.Struct):
    """What came of a pipeline's feedback. `waiting` are those whose result is not there yet."""

    outcomes: dict[str, int] = {}
    waiting: int = 0


class Unsettled(msgspec.Struct, array_like=True):
    """Feedback that waits, as a snapshot has it: where it lies in the feedback topic, and how often its result was
    looked for. What it says is read again."""

    partition: int
    offset: int
    attempts: int


class Joined(msgspec.Struct, array_like=True):
    """All that a joiner knows."""

    outcomes: dict[str, dict[str, int]]
    realised: list[msgspec.Raw]
    unsettled: list[Unsettled]


class Joiner:
    """Takes feedback and what was found of its results. It has no clock."""

    def __init__(self, horizon_s: int, most: int = MAX_KEPT) -> None:
        self.horizon_s = horizon_s
        self._horizon_ms = horizon_s * 1000
        self.realised = Realised(most)
        self._hearing = Hearing()
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
        known, waits = self.realised.known(place), self._waiting.get(place)
        if known is not None and said.time_ms < known.time_ms:
            return self.count(place.pipeline, "duplicate")
        if waits is not None:
            if said.time_ms >= waits.said.time_ms:
                self._waiting[place] = waits._replace(said=said)
            return self.count(place.pipeline, "duplicate")
        self._waiting[place] = Waiting(said, now_ms)
        self.fresh += 1
        return None

    def resume(self, place: Place, said: Said, now_ms: int, attempts: int) -> Outcome | None:
        """Feedback that waited when the snapshot was taken, and is read again. What came since, in another partition,
        may have been read before it: that is the duplicate of the two, as it would have been without the restart."""
        known, waits = self.realised.known(place), self._waiting.pop(place, None)
        if waits is not None:
            self.fresh -= waits.fresh
            said = waits.said if waits.said.time_ms >= said.time_ms else said
        elif known is not None and said.time_ms < known.time_ms:
            return self.count(place.pipeline, "duplicate")
        self._waiting[place] = Waiting(said, now_ms, attempts)
        self.fresh += self._waiting[place].fresh
        return None if waits is None else self.count(place.pipeline, "duplicate")

    def wanted(self, now_ms: int, limit: int) -> list[Place]:
        """The places whose results are to be looked up now, in order, `limit` at most."""
        due = (place for place, waits in self._waiting.items() if waits.at_ms <= now_ms)
        return sorted(islice(due, limit))

    def found(self, place: Place, result: Result | Absent, now_ms: int) -> Outcome | None:
        """What was found of a place; None for feedback that goes on waiting. Who is early is told so once, and gets an
        outcome later."""
        waits = self._waiting.pop(place)
        self.fresh -= waits.fresh
        if isinstance(result, Absent):
            if not result.yet:
                return self.count(place.pipeline, "no_result")
            if now_ms - waits.said.time_ms > self._horizon_ms or len(self._waiting) >= MAX_WAITING:
                return self.count(place.pipeline, "unknown")
            pause_ms = min(AGAIN_MS * 2 ** min(waits.attempts, 8), _LONGEST_MS)
            self._waiting[place] = waits._replace(at_ms=now_ms + pause_ms, attempts=waits.attempts + 1)
            return None if waits.attempts else self.count(place.pipeline, "early")
        event_ms = result.source.timestamp_ms
        lag_ms = waits.said.time_ms - event_ms if event_ms >= 0 else None
        if lag_ms is not None and lag_ms > self._horizon_ms:
            return self.count(place.pipeline, "late")
        return self._match(place, waits.said, result, lag_ms, now_ms)

    def put_off(self, places: Iterable[Place], now_ms: int) -> list[tuple[Place, Outcome]]:
        """Those of these places that were to be looked up by now could not be: they are to make way for others, and for
        new feedback as long as there is room for so much. Returns those that are given up, as the horizon is over."""
        given_up: list[tuple[Place, Outcome]] = []
        for place in places:
            waits = self._waiting.get(place)
            if waits is None or waits.at_ms > now_ms:
                continue
            if now_ms - waits.said.time_ms > self._horizon_ms:
                self.fresh -= waits.fresh
                del self._waiting[place]
                given_up.append((place, self.count(place.pipeline, "unknown")))
            else:
                put_off = waits.put_off or len(self._waiting) < MAX_WAITING
                later = waits._replace(at_ms=now_ms + FAILED_MS, put_off=put_off)
                self.fresh -= waits.fresh and not later.fresh
                del self._waiting[place]
                self._waiting[place] = later
        return given_up

    def count_waiting(self, others: Mapping[str, int] = _NONE) -> None:
        """Set how many wait, by pipeline, with others that do not wait here."""
        waiting = Counter(place.pipeline for place in self._waiting) + Counter(others)
        for pipeline in {*self.tallies, *waiting}:
            self.tally(pipeline).waiting = waiting[pipeline]

    def forget(self, now_ms: int) -> None:
        """Let go of results that are older than the horizon: no feedback on them counts any more."""
        self.realised.forget(self.since_ms(now_ms))

    def since_ms(self, now_ms: int) -> int:
        """The day that is the first one within the horizon."""
        return (now_ms - self._horizon_ms) // DAY_MS * DAY_MS

    def joined(self, unread: Mapping[tuple[int, int], int]) -> Joined:
        """All of it; `restore` goes on from there. `unread` is what waited before, by place, and is not resumed yet."""
        outcomes = {name: tally.outcomes for name, tally in self.tallies.items()}
        unsettled = [Unsettled(*waits.said.at, waits.attempts) for waits in self._waiting.values()]
        unsettled += [Unsettled(*at, attempts) for at, attempts in unread.items()]
        return Joined(outcomes, self.realised.saved(), unsettled)

    def restore(self, joined: Joined) -> None:
        """Go on from a snapshot; what waits is to be read again, and given to `resume`. Raises msgspec.MsgspecError,
        and nothing has changed, where it is none."""
        self.realised.restore(joined.realised)
        self.tallies = {name: Tally(each) for name, each in joined.outcomes.items()}

    def _match(self, place: Place, said: Said, result: Result, lag_ms: int | None, now_ms: int) -> Outcome:
        revision = result.model.revision
        event_ms = result.source.timestamp_ms
        if not 0 <= event_ms <= now_ms:  # no time, or one of a clock that is wrong
            event_ms = min(max(said.time_ms, 0), now_ms)
        evidence = self._hearing.hold(place.pipeline, revision, result.task, said.feedback, result.output)
        weight = 1 if said.feedback.probability in (None, 1) else 1 / said.feedback.probability
        kept = Kept(said.time_ms, event_ms, revision, evidence, weight)
        again = self.realised.put(place, kept, None if lag_ms is None else max(lag_ms, 0) // 1000)
        return self.count(place.pipeline, "duplicate" if again else "matched")
