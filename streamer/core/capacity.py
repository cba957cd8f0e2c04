"""What one replica of a pipeline settles, learned from the pipeline's reports."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Final

from streamer.core.record import TopicPartition
from streamer.core.report import Report

WINDOW_MS: Final = 10_000
_WINDOWS: Final = 30
_MOST_MEMBERS: Final = 1_000
_FADES: Final = 0.99  # a report's weight in the shares, with each later one


@dataclass(slots=True)
class _Work:
    """A member's window. It is `whole` when the member had settled something in the one before."""

    number: int
    whole: bool
    records: int = 0
    tokens: int = 0
    late_ms: int = 0
    timed: int = 0


class Capacity:
    """Counts reports in windows of ten seconds of each member.

    Where records waited for longer than a window on average, there was more to do than the member could: what it
    settled then is its capacity. Without such windows the best that was seen is the least that it may be. What is
    counted is tokens where the reports tell of them, so that a change in the length of texts is followed at once.
    """

    def __init__(self) -> None:
        self._members: dict[str, _Work] = {}
        self._busy: deque[tuple[int, int]] = deque(maxlen=_WINDOWS)
        self._calm: deque[tuple[int, int]] = deque(maxlen=_WINDOWS)
        self._records = self._tokens = self._offsets = 0.0
        self._last: dict[TopicPartition, int] = {}

    def add(self, report: Report) -> None:
        """Count a report of the pipeline; that a member started or ended is none."""
        if report.event is not None or not report.records:
            return
        self._note_shares(report)
        number, work = report.time_ms // WINDOW_MS, self._members.get(report.member)
        if work is None or work.number != number:
            follows = work is not None and number == work.number + 1
            if work is not None and follows and work.whole and work.records:
                busy = work.timed > 0 and work.late_ms >= WINDOW_MS * work.timed
                (self._busy if busy else self._calm).append((work.records, work.tokens))
            work = _Work(number, follows)
            self._members.pop(report.member, None)
            self._members[report.member] = work
            if len(self._members) > _MOST_MEMBERS:
                del self._members[next(iter(self._members))]
        work.records += report.records
        work.tokens += report.tokens
        work.late_ms += report.latency_ms.sum
        work.timed += sum(count for _, count in report.latency_ms.counts)

    @property
    def records_per_s(self) -> float | None:
        """Records that one replica settles a second, of the length that they have lately; None while unknown."""
        windows = self._busy or self._calm
        if not windows:
            return None
        found = statistics.median if self._busy else max
        tokens = [tokens for _, tokens in windows]
        if all(tokens) and self._tokens:
            per_window = found(tokens) * self._records / self._tokens
        else:
            per_window = found([records for records, _ in windows])
        return per_window * 1000 / WINDOW_MS

    @property
    def share(self) -> float:
        """The part of the input's offsets that are records; the rest are transaction markers and aborted records."""
        return min(self._records / self._offsets, 1.0) if self._offsets else 1.0

    def _note_shares(self, report: Report) -> None:
        offsets = 0
        for topic, partition, first, last in report.ranges:
            before = self._last.get((topic, partition), last)
            offsets += last - (before if before < first else first - 1)
            self._last[topic, partition] = last
        self._records = self._records * _FADES + report.records
        self._tokens = self._tokens * _FADES + report.tokens
        self._offsets = self._offsets * _FADES + offsets
