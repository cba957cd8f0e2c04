"""How long what waits will take: the backlog of a pipeline, by records and by time."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from streamer.core.record import TopicPartition

WINDOW_S = 60.0
_FINE = 32  # what arrived is known by a thirty-second of the time that is looked back on
# A backlog that the last second's pace clears in a second is none: the pace of such a time is the producers', not ours.
_CAUGHT_UP_S = 1.0


def drain_s(records: int, rate_out: float) -> float | None:
    """Seconds to settle what waits now at `rate_out` records/s, what arrives meanwhile not counted.

    None when nothing is being settled, so that nobody can say.
    """
    if records <= 0:
        return 0.0
    return records / rate_out if rate_out > 0 else None


def caught_up_s(records: int, rate_in: float, rate_out: float) -> float | None:
    """Seconds until nothing waits any more, arrivals counted; None while it falls behind or stands."""
    if records <= 0:
        return 0.0
    return records / (rate_out - rate_in) if rate_out > rate_in else None


class Drain:
    """Drain time of a running pipeline, asked about once a second.

    The pace is that of the present backlog alone, over the last 60 s at most: a lull before a burst would make the
    burst look endless. While a backlog has seen nothing settled, its age is the best that can be said, and it grows.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._last = (0.0, 0)

    def look(self, now: float, records: int, settled: int, oldest_s: float) -> float:
        """`records` wait, the oldest for `oldest_s`; `settled` were settled in all so far. Returns seconds, finite."""
        (last_at, last_settled), self._last = self._last, (now, settled)
        pace = (settled - last_settled) / (now - last_at) if now > last_at else 0.0
        if records <= pace * _CAUGHT_UP_S:
            self._seen.clear()
            return drain_s(records, pace) or 0.0
        self._seen.append((now, settled))
        while now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        found = drain_s(records, (settled - before) / (now - since)) if now > since else None
        return oldest_s if found is None else found


class LogEnds:
    """Since when there have been records that are not settled, by the ends of the logs as they were heard of: of
    records whose timestamps can't be believed, a producer's clock being ahead, nothing else tells. Times are seconds
    of a monotonic clock."""

    def __init__(self) -> None:
        self._ends: dict[TopicPartition, deque[tuple[int, float]]] = {}

    def waited_s(self, key: TopicPartition, first: int, end: int, now: float) -> float:
        """For how long at least the record at offset `first` has been there, 0 where the log ends before it; `end` is
        the offset behind the last record now."""
        ends = self._ends.setdefault(key, deque())
        if ends and end < ends[-1][0]:  # the topic was recreated
            ends.clear()
        while ends and ends[0][0] <= first:
            ends.popleft()
        if end > (ends[-1][0] if ends else first) and (not ends or now - ends[-1][1] >= (now - ends[0][1]) / _FINE):
            ends.append((end, now))
        return now - ends[0][1] if ends else 0.0

    def keep(self, owned: Collection[TopicPartition]) -> None:
        """No others are ours."""
        for key in self._ends.keys() - owned:
            del self._ends[key]
