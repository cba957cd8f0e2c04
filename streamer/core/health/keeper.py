"""What the health app remembers: the fold, how far the reports were read, and which windows are to be written next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

import msgspec

from streamer.core.health.windows.fold import LENGTHS, Fold
from streamer.core.health.words import SnapshotWord, WindowKey, WindowWord
from streamer.core.report import read

GRACE_MS: Final = 5_000
"""How long after its end a window is said first. What comes later is counted all the same: the window is said again."""


class Taken(Enum):
    """What a record of the reports' topic was."""

    NEW = "new"
    REPEATED = "repeated"
    EVENT = "event"
    UNREADABLE = "unreadable"


class Keeper:
    """Takes the records of the reports' topic in any order, any number of times. It has no clock: times are given."""

    def __init__(self, reports: str) -> None:
        self.fold = Fold()
        self._reports = reports
        self.newest_ms: dict[str, int] = {}
        self._due: set[WindowKey] = set()

    @property
    def pipelines(self) -> list[str]:
        """All pipelines that reports told of."""
        return sorted(self.newest_ms)

    def take(self, partition: int, offset: int, value: bytes | None) -> Taken:
        """Count one record of the reports' topic."""
        taken = self._take(value)
        place = f"{self._reports}/{partition}"
        self.fold.upto[place] = max(self.fold.upto.get(place, 0), offset + 1)
        return taken

    def upto(self, partition: int) -> int | None:
        """The offset to read next in a partition of the reports' topic; None before the first."""
        return self.fold.upto.get(f"{self._reports}/{partition}")

    def begin_at(self, partition: int, offset: int) -> None:
        """Reading goes on there: a recreated topic counts its offsets from 0."""
        self.fold.upto[f"{self._reports}/{partition}"] = offset

    def due(self, now_ms: int) -> list[WindowKey]:
        """The windows that have ended and changed since they were said; they count as said from now on."""
        ended = sorted(key for key in self._due if key.end_ms + GRACE_MS <= now_ms)
        self._due.difference_update(ended)
        return ended

    def say_again(self, keys: Iterable[WindowKey]) -> None:
        """Say these windows again: they could not be written."""
        self._due.update(keys)

    def words(self, keys: Iterable[WindowKey]) -> list[WindowWord]:
        """These windows as they are now, without those that the fold has forgotten."""
        found = ((key, self.fold.window(*msgspec.structs.astuple(key))) for key in keys)
        return [
            WindowWord(
                pipeline=key.pipeline,
                revision=key.revision,
                start_ms=key.start_ms,
                length_ms=key.length_ms,
                window=window,
            )
            for key, window in found
            if window is not None
        ]

    def snapshot(self, now_ms: int, feedback: Mapping[int, int] | None = None, drift: bytes = b"") -> SnapshotWord:
        """All of this in one record. Write it only when all windows that were due before are written."""
        return SnapshotWord(
            reports=self._reports,
            time_ms=now_ms,
            newest_ms=self.newest_ms,
            pending=sorted(self._due),
            feedback={str(partition): offset for partition, offset in (feedback or {}).items()},
            fold=self.fold.snapshot(),
            drift=drift,
        )

    def restore(self, word: SnapshotWord) -> bool:
        """Go on from a snapshot; False, and nothing changed, where it can't be read: then all reports are read."""
        try:
            self.fold = Fold.restore(word.fold)
        except ValueError:
            return False
        self.newest_ms, self._due = word.newest_ms, set(word.pending)
        return True

    def _take(self, value: bytes | None) -> Taken:
        report = read(value)
        if report is None:
            return Taken.UNREADABLE
        if report.event is not None:
            return Taken.EVENT
        if not self.fold.add(report):
            return Taken.REPEATED
        self.newest_ms[report.pipeline] = max(self.newest_ms.get(report.pipeline, 0), report.time_ms)
        for length_ms in LENGTHS:
            start_ms = report.time_ms - report.time_ms % length_ms
            self._due.add(WindowKey(report.pipeline, report.model.revision, start_ms, length_ms))
        return Taken.NEW
