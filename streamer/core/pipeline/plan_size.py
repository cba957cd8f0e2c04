"""How much of what is finished the next plan may hold: less where the brokers refused a plan, or where the way to them
is too slow for all of it.

A plan that takes longer than a transaction may is aborted, and made again it would only be larger. So plans begin small
and grow while the way takes them soon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streamer.core.pipeline.protocol import Settled, Unsettled
from streamer.core.record import Answer, Segment, TopicPartition

TARGET_S: Final = 3.0
SLOW_S: Final = 5.0
START_BYTES: Final = 512 << 10
AMPLE_BYTES: Final = 64 << 20
"""A way that takes this much in time needs no bound."""
RECORD_EXTRA_BYTES: Final = 400
"""About what an outcome takes on the wire beside its output: its source, model, headers and key."""


@dataclass(slots=True)
class Cut:
    """What one plan may hold: at most `records` and `size_bytes`, and with `until` only these partitions' records below
    these offsets. A single record is always allowed. `probe` asks for the one record that was refused before."""

    until: Mapping[TopicPartition, int] | None = None
    records: int | None = None
    size_bytes: int | None = None
    probe: bool = False
    spent: bool = False  # whether something did not fit
    _any: bool = False

    @property
    def open(self) -> bool:
        """Whether all that is finished may be planned."""
        return self.until is None and self.records is None and self.size_bytes is None

    def last(self, key: TopicPartition, segment: Segment, last: int) -> int:
        """Up to where this segment, finished until `last`, may be planned; what that takes is spent."""
        first = segment.planned
        if self.until is not None:
            records, until = segment.records, self.until[key]
            while last > first and records[last - 1].offset() >= until:
                last -= 1
        if self.records is not None:
            last = min(last, first + self.records)
            self.records -= last - first
            self.spent = self.records == 0
        if self.size_bytes is not None:
            last = self._fitting(segment, first, last)
        self._any |= last > first
        return last

    def _fitting(self, segment: Segment, first: int, last: int) -> int:
        assert self.size_bytes is not None
        for index in range(first, last):
            outcome = segment.outcomes[index]
            size = len(outcome.output) if type(outcome) is Answer else len(segment.records[index].value() or b"")
            self.size_bytes -= size + RECORD_EXTRA_BYTES
            if self.size_bytes < 0 and (self._any or index > first):
                self.spent = True
                return index
        return last


@dataclass(slots=True)
class Pace:
    """What the way to the brokers takes, learned as TCP does: plans grow as long as they come through soon, and slowly
    where a larger one did not. `most_bytes` is None where it takes whatever comes; `slow_since` is in seconds of a
    monotonic clock, None where plans come through in time."""

    most_bytes: int | None = START_BYTES
    slow_since: float | None = None
    _careful_bytes: int = AMPLE_BYTES  # plans larger than this grow by a tenth

    def settled(self, fact: Settled, now: float) -> None:
        """A plan came through."""
        if fact.seconds > SLOW_S:
            self._slow(int(fact.size_bytes / fact.seconds * TARGET_S), now)
        elif self.most_bytes is None:
            return
        elif fact.size_bytes <= self.most_bytes // 2:
            self.slow_since = None  # nothing waits for the way
        elif fact.seconds < TARGET_S / 2:
            size_bytes = max(self.most_bytes, fact.size_bytes)
            self.most_bytes = min(2 * size_bytes, max(self._careful_bytes, size_bytes + size_bytes // 10 + 1))
            if self.most_bytes >= AMPLE_BYTES:
                self.most_bytes = self.slow_since = None
                self._careful_bytes = AMPLE_BYTES

    def unsettled(self, fact: Unsettled, now: float) -> None:
        """A plan was rolled back. One that took long may have been too large for the way, whatever the error: it is
        made smaller. Where the brokers were away, the next ones soon grow again."""
        if fact.seconds < SLOW_S or not fact.size_bytes:
            return
        self._careful_bytes = fact.size_bytes // 2
        taken = int(fact.delivered_bytes / fact.seconds * TARGET_S)
        self._slow(min(taken or START_BYTES, START_BYTES, fact.size_bytes // 2), now)

    def _slow(self, most_bytes: int, now: float) -> None:
        self.most_bytes = max(most_bytes, 1)
        if self.slow_since is None:
            self.slow_since = now
