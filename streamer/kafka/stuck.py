"""Partitions that give nothing although there is something to read.

librdkafka may leave a partition paused for ever after a resume that met a rebalance (librdkafka #5591), and shows no
sign of it. So a partition that was asked for long and did not move, with records before it, is resumed and sought to
where it stands. What looks alike is the end of a topic that is written in transactions: its last offsets hold no
records. Seeking there does no harm, and is done once for each end. A client that was paused from the start has never
heard where the end is: then there may be records, and it is sought as long as nothing is heard.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamer.core.record import TopicPartition


@dataclass(slots=True)
class _Stand:
    position: int
    since: float
    sought_below: int = 0  # the end that was known when it was sought anew; 0 before


class StuckWatch:
    """Compares positions over time, in seconds of a monotonic clock. `healed` counts the partitions that moved on over
    what was there already when they were sought anew."""

    def __init__(self, stuck_s: float) -> None:
        self.healed = 0
        self._stuck_s = stuck_s
        self._stands: dict[TopicPartition, _Stand] = {}

    def look(
        self, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int], now: float
    ) -> dict[TopicPartition, int]:
        """Returns the partitions to seek, with their positions. `positions` are of all partitions that we ask for
        records; one that we did not ask (paused, held) must be left out, and begins anew."""
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
        """This partition could not be sought: watch it anew."""
        self._stands.pop(key, None)
