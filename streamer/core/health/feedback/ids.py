"""Ids that events brought along: which event each is of, and feedback that waits until that is known.

The index is bounded: it holds the ids of the last results of a pipeline. It has no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from streamer.core.health.feedback.feedback import Place, Said
from streamer.core.health.feedback.join import MAX_WAITING, Outcome, Source

MOST_IDS: Final = 200_000
"""Ids that are known of a pipeline: some 60 MB."""


class NamedResult(msgspec.Struct, frozen=True):
    """What of a result says which event its id is of."""

    id: str
    source: Source


class Unplaced(NamedTuple):
    """Feedback on an id that is not known yet. `attempts` is 0 until it was said that it came early."""

    said: Said
    attempts: int


class Ids:
    """The ids of all pipelines that get feedback by them."""

    def __init__(self, horizon_s: int, most: int = MOST_IDS) -> None:
        self._horizon_ms, self._most = horizon_s * 1000, most
        self._places: dict[str, dict[str, Place]] = {}
        self._waiting: dict[tuple[str, str], Unplaced] = {}

    @property
    def pipelines(self) -> list[str]:
        """Those whose results are to be read."""
        return list(self._places)

    def place(self, pipeline: str, id_: str) -> Place | None:
        """The event of an id, as far as it is known. From now on results of that pipeline are to be `put`."""
        return self._places.setdefault(pipeline, {}).get(id_)

    def wait(self, pipeline: str, said: Said, attempts: int = 0) -> Outcome | None:
        """Keep feedback until its id is known. Of several on one id the last by its time counts; None for the first."""
        key = pipeline, said.feedback.id or ""
        known = self._waiting.get(key)
        if known is None:
            if len(self._waiting) >= MAX_WAITING:
                return "unknown"
            self._waiting[key] = Unplaced(said, attempts)
            return None
        if said.time_ms >= known.said.time_ms:
            self._waiting[key] = known._replace(said=said)
        return "duplicate"

    def put(self, pipeline: str, results: Iterable[tuple[str, Place]]) -> list[tuple[Place, Unplaced]]:
        """Results with the ids of their events, in the order of the topic: of several with one id the last counts. What
        waited for them is returned, and waits no longer."""
        places = self._places.setdefault(pipeline, {})
        found = {}
        for id_, place in results:
            places.pop(id_, None)  # the newest stand last
            places[id_] = place
            if (pipeline, id_) in self._waiting:
                found[id_] = place
        for id_ in list(places)[: max(0, len(places) - self._most)]:
            del places[id_]
        return [(place, self._waiting.pop((pipeline, id_))) for id_, place in found.items()]

    def early(self, pipeline: str) -> int:
        """All results of the pipeline are put: how much that waits is now known to have come early."""
        fresh = {key: one for key, one in self._waiting.items() if key[0] == pipeline and not one.attempts}
        self._waiting |= {key: one._replace(attempts=1) for key, one in fresh.items()}
        return len(fresh)

    def given_up(self, now_ms: int) -> list[str]:
        """The pipelines of what has waited for longer than the horizon, and waits no longer."""
        late = [key for key, one in self._waiting.items() if now_ms - one.said.time_ms > self._horizon_ms]
        for key in late:
            del self._waiting[key]
        return [pipeline for pipeline, _ in late]

    def waiting(self) -> Counter[str]:
        """How many wait, by pipeline."""
        return Counter(pipeline for pipeline, _ in self._waiting)

    def unsettled(self) -> dict[tuple[int, int], int]:
        """Where waiting feedback lies in its topic, and how often it was tried: a snapshot keeps this, and it is read
        again."""
        return {one.said.at: one.attempts for one in self._waiting.values()}
