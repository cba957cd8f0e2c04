"""How far a source has read: the ends of the partitions that it last heard of, and those that stand still.

librdkafka may leave a partition paused for ever after a resume that met a rebalance (librdkafka #5591), and shows no
sign of it. So a partition that was asked for long and did not move, with records before it, is resumed and sought to
where it stands. What looks alike is the end of a topic that is written in transactions: its last offsets hold no
records. Seeking there does no harm, and is done once for each end. A client that was paused from the start has never
heard where the end is: then there may be records, and it is sought as long as nothing is heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from streamer.core.record import TopicPartition

LOOK_AHEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Ahead:
    """One partition: the next offset to take (behind the markers of ended transactions, too), the end of its log that
    the client last heard of (-1: none), and since when it has stood there with something ahead, in seconds of a
    monotonic clock (None: it has not)."""

    position: int
    high: int
    since: float | None = None


class Suspect(NamedTuple):
    """A partition that stands at `position`; `asked` is whether the client had its chance to give what is there."""

    position: int
    asked: bool


class ReadProgress:
    """Looks once a second. `ahead`, `suspects` and `stuck.healed` may be read from any thread. Times are seconds of a
    monotonic clock."""

    def __init__(self, stuck_s: float, stand_s: float) -> None:
        self.ahead: dict[TopicPartition, Ahead] = {}
        self.suspects: dict[TopicPartition, Suspect] = {}
        self.stuck = StuckWatch(stuck_s)
        self._stand_s = stand_s
        self._asked: dict[TopicPartition, float] = {}  # since when
        self._look_at = 0.0
        self._idle_at = float("-inf")

    def idle(self, now: float) -> None:
        """The client was asked and had nothing: what it could give has been taken."""
        self._idle_at = now

    def is_due(self, now: float) -> bool:
        """Whether it is time to look."""
        return now >= self._look_at

    def look(
        self,
        positions: Mapping[TopicPartition, int],
        highs: Mapping[TopicPartition, int],
        unasked: Set[TopicPartition],
        now: float,
    ) -> dict[TopicPartition, int]:
        """Look at the partitions that are ours, by the offset to read next and the end that was heard of (-1: none);
        `unasked` are those that are given no chance to move. Returns those that are to be resumed, and sought to where
        they stand."""
        self._look_at = now + LOOK_AHEAD_S
        self.ahead = {key: self._ahead(key, position, highs[key], now) for key, position in positions.items()}
        asked = {key: position for key, position in positions.items() if key not in unasked}
        self._asked = {key: self._asked.get(key, now) for key in asked}
        self.suspects = {
            key: Suspect(one.position, self._was_polled(key, one.since, now))
            for key, one in self.ahead.items()
            if one.since is not None and now - one.since >= self._stand_s
        }
        return self.stuck.look(asked, {key: high for key, high in highs.items() if high >= 0}, now)

    def _was_polled(self, key: TopicPartition, since: float, now: float) -> bool:
        """Whether the client was asked for long enough, and what it had was taken meanwhile."""
        asked = max(self._asked.get(key, now), since)
        return now - asked >= self._stand_s and self._idle_at > asked

    def _ahead(self, key: TopicPartition, position: int, high: int, now: float) -> Ahead:
        if 0 <= high <= position:
            return Ahead(position, high)
        before = self.ahead.get(key)
        stands = before is not None and before.position == position and before.since is not None
        return Ahead(position, high, before.since if stands else now)  # type: ignore[union-attr]


@dataclass(slots=True)
class _Stand:
    position: int
    since: float
    sought_below: int = 0  # the end that was known when it was last sought; 0 before


class StuckWatch:
    """Compares positions over time, in seconds of a monotonic clock. `healed` counts the partitions that moved on over
    what was there already when they were sought."""

    def __init__(self, stuck_s: float) -> None:
        self.healed = 0
        self._stuck_s = stuck_s
        self._stands: dict[TopicPartition, _Stand] = {}

    def look(
        self, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int], now: float
    ) -> dict[TopicPartition, int]:
        """Returns the partitions to seek, with their positions. `positions` are of all partitions that we ask for
        records; one that we did not ask (paused, held) must be left out, and starts over."""
        stuck = {}
        for key in self._stands.keys() - positions.keys():
            del self._stands[key]
        for key, position in positions.items():
            stand = self._stands.get(key)
            if stand is None or stand.position != position:
                if stand is not None and stand.position < position <= stand.sought_below:
                    self.healed += 1
                self._stands[key] = _Stand(position, now)
            elif now - stand.since > self._stuck_s:
                end = ends.get(key)
                if end is None or end > max(position, stand.sought_below):
                    stand.sought_below, stand.since = end or 0, now
                    stuck[key] = position
        return stuck

    def forget(self, key: TopicPartition) -> None:
        """This partition could not be sought: watch it from the start."""
        self._stands.pop(key, None)
