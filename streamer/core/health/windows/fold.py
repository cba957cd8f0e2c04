"""Folds reports into windows of a minute, five minutes, an hour and a day, for each pipeline and revision of its model.

The order of reports, how they are split, and how often each comes make no difference: a window knows the input offsets
that it has counted, and a report counts in the window of its own time. Nobody's clock is asked.

A report is known if the smallest window that is still kept for its time has all of its offsets, and a report of that
time or later. Offsets that are settled again later, since at_least_once repeats them, or since a partition is read
again, count again: their outcomes were written again. Only within such a window their order matters: the earlier report
must come first.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from streamer.core.health.windows.intervals import Edges, add, closed, covers, limited, union
from streamer.core.health.windows.window import Window, merged, window_of
from streamer.core.report import Report

MINUTE_MS, FIVE_MINUTES_MS, HOUR_MS, DAY_MS = LENGTHS = (60_000, 300_000, 3_600_000, 86_400_000)

KEEP: Final[Mapping[int, int]] = {MINUTE_MS: 120, FIVE_MINUTES_MS: 576, HOUR_MS: 336, DAY_MS: 365}
"""How many windows of each length are kept: those with the latest starts that a pipeline has reports of. Counting them,
instead of going back from the latest, lets a report from the future displace one window only."""

REVISIONS: Final = 4
"""Revisions that a window may have on average; with more, fewer windows are kept."""

MARKERS: Final = 8
"""Gaps of so few offsets are filled in windows of more than a minute: markers of transactions on the input would else
leave a range for each. A report of as few offsets that comes once its minute is no longer kept may so seem known."""

MINUTE_RANGES, RANGES = 4_096, 1_024
"""Ranges a partition that a window of a minute, and that a longer one, tells apart: more only where the input has more
gaps than that, as a compacted topic may. Then the narrowest gaps are filled."""

PENDING_REPORTS: Final = 2_000
"""Reports that wait for their sums: adding up many at once is several times as fast as one by one."""

VERSION: Final = 1

_Key = tuple[int, str]  # start_ms, revision


@dataclass(slots=True)
class _Growth:
    """What is to be added to a window."""

    sums: list[Window] = field(default_factory=list)
    ranges: list[dict[str, Edges]] = field(default_factory=list)


@dataclass(slots=True)
class _Cell:
    """A window in the making: `sums` has all but the ranges and what is pending."""

    last_ms: int
    ranges: dict[str, Edges] = field(default_factory=dict)
    sums: Window | None = None
    pending: list[Window] = field(default_factory=list)

    def take(self, growth: _Growth, start_ms: int, length_ms: int) -> None:
        """Add to the window."""
        sums = growth.sums if self.sums is None else [self.sums, *growth.sums]
        self.sums = msgspec.structs.replace(merged(sums), start_ms=start_ms, length_ms=length_ms)
        self.last_ms = self.sums.last_ms
        for place in {place for ranges in growth.ranges for place in ranges}:
            sets = [self.ranges.get(place, []), *(ranges.get(place, []) for ranges in growth.ranges)]
            self.ranges[place] = _bounded(union(sets), length_ms)

    def window(self) -> Window:
        """The window, of which nothing may be pending."""
        assert self.sums is not None, "settled"
        ranges = {place: list(edges) for place, edges in self.ranges.items()}
        return msgspec.structs.replace(self.sums, ranges=ranges)


class _Kept:
    """A pipeline's windows by length; what starts at or before a length's floor is no longer kept."""

    def __init__(self) -> None:
        self.cells: dict[int, dict[_Key, _Cell]] = {length_ms: {} for length_ms in LENGTHS}
        self.floors: dict[int, int] = {}

    def keeps(self, start_ms: int, length_ms: int) -> bool:
        """Whether a window of then is kept."""
        return length_ms not in self.floors or start_ms > self.floors[length_ms]

    def let_go(self, length_ms: int, most: int) -> None:
        """Keep the latest `most` starts. All revisions of a start go together: what is left of a time is whole."""
        cells = self.cells[length_ms]
        revisions = Counter(start_ms for start_ms, _ in cells)
        count = 0
        for place, start_ms in enumerate(sorted(revisions, reverse=True)):
            count += revisions[start_ms]
            if place >= most or count > most * REVISIONS:
                self.floors[length_ms] = start_ms
                self.cells[length_ms] = {key: cell for key, cell in cells.items() if key[0] > start_ms}
                return


class _Snapshot(msgspec.Struct):
    version: int
    upto: dict[str, int]
    floors: dict[str, dict[str, int]]
    windows: list[Window]


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(_Snapshot).decode


class Fold:
    """Takes reports; `keep` are the numbers of windows to keep, by length.

    `upto` is for who reads the reports: where to read on, by `topic/partition` of the reports; it is part of a
    snapshot. Counted since the start, and in no snapshot: `known`, reports that had been counted before, and `late`,
    those of a time that no window is kept of any more.
    """

    def __init__(self, keep: Mapping[int, int] = KEEP) -> None:
        self.upto: dict[str, int] = {}
        self.known = self.late = 0
        self._keep = keep
        self._pipelines: dict[str, _Kept] = {}
        self._dirty: list[tuple[str, int, _Key]] = []
        self._pending = 0

    @property
    def pipelines(self) -> list[str]:
        """The pipelines that have windows, by name."""
        return sorted(self._pipelines)

    def add(self, report: Report) -> bool:
        """Count a report; False where nothing of it is new, where it is too late, and where it settles nothing, as
        reports of a member's start and end."""
        if report.event is not None or not report.ranges or any(last < first for *_, first, last in report.ranges):
            return False
        kept = self._pipelines.get(report.pipeline)
        if kept is None:
            kept = self._pipelines[report.pipeline] = _Kept()
        for length_ms in LENGTHS:
            start_ms = report.time_ms // length_ms * length_ms
            if kept.keeps(start_ms, length_ms):
                break
        else:
            self.late += 1
            return False
        key = start_ms, report.model.revision
        cell = kept.cells[length_ms].get(key)
        if cell is None:
            cell = kept.cells[length_ms][key] = _Cell(report.time_ms)
        settled = [(f"{topic}/{partition}", first, last + 1) for topic, partition, first, last in report.ranges]
        ranges = cell.ranges
        if report.time_ms <= cell.last_ms and all(
            place in ranges and covers(ranges[place], first, end) for place, first, end in settled
        ):
            self.known += 1
            return False
        cell.last_ms = max(cell.last_ms, report.time_ms)
        window = window_of(report, length_ms)
        for place, first, end in settled:
            window.offsets += end - first
            add(ranges.setdefault(place, []), first, end)
            ranges[place] = _bounded(ranges[place], length_ms)
        if not cell.pending:
            self._dirty.append((report.pipeline, length_ms, key))
        cell.pending.append(window)
        self._pending += 1
        if self._pending >= PENDING_REPORTS:
            self._settle()
        return True

    def window(self, pipeline: str, revision: str, start_ms: int, length_ms: int) -> Window | None:
        """One window, None where there is none."""
        self._settle()
        kept = self._pipelines.get(pipeline)
        cell = kept.cells[length_ms].get((start_ms, revision)) if kept is not None else None
        return cell.window() if cell is not None else None

    def windows(self, pipeline: str, length_ms: int, since_ms: int = 0) -> list[Window]:
        """The windows of this length that start then or later, by start and revision. Times without a report have
        none."""
        self._settle()
        kept = self._pipelines.get(pipeline)
        cells = kept.cells[length_ms] if kept is not None else {}
        return [cells[key].window() for key in sorted(cells) if key[0] >= since_ms]

    def snapshot(self) -> bytes:
        """All of it, `upto` included; the same bytes for the same reports."""
        self._settle()
        floors = {
            name: {str(length_ms): floor for length_ms, floor in kept.floors.items()}
            for name, kept in self._pipelines.items()
        }
        return zlib.compress(_encode(_Snapshot(VERSION, self.upto, floors, list(self._all()))), level=1)

    @classmethod
    def restore(cls, snapshot: bytes, keep: Mapping[int, int] = KEEP) -> Fold:
        """A fold that goes on from a snapshot. Raises ValueError for bytes that are none, or of another version."""
        try:
            found = _decode(zlib.decompress(snapshot))
        except (zlib.error, msgspec.MsgspecError) as error:
            raise ValueError(f"no snapshot of model health: {error}") from None
        if found.version != VERSION:
            raise ValueError(f"a snapshot of model health of version {found.version}; this is version {VERSION}")
        fold = cls(keep)
        fold.upto = found.upto
        for name, floors in found.floors.items():
            kept = fold._pipelines[name] = _Kept()
            kept.floors = {int(length_ms): floor for length_ms, floor in floors.items()}
        for window in found.windows:
            cell = _Cell(window.last_ms, window.ranges, msgspec.structs.replace(window, ranges={}))
            fold._pipelines[window.pipeline].cells[window.length_ms][window.start_ms, window.revision] = cell
        return fold

    def _all(self) -> Iterator[Window]:
        for name in sorted(self._pipelines):
            for length_ms in LENGTHS:
                yield from self.windows(name, length_ms)

    def _settle(self) -> None:
        """Add up what is pending, in windows of all lengths, and let go of what is no longer kept."""
        if not self._pending:
            return
        grown: dict[tuple[str, int, _Key], _Growth] = {}
        for name, length_ms, key in self._dirty:
            kept = self._pipelines[name]
            cell = kept.cells[length_ms][key]
            fresh, cell.pending = merged(cell.pending), []
            grown.setdefault((name, length_ms, key), _Growth()).sums.append(fresh)
            for longer_ms in LENGTHS[LENGTHS.index(length_ms) + 1 :]:
                start_ms = key[0] // longer_ms * longer_ms
                if kept.keeps(start_ms, longer_ms):
                    growth = grown.setdefault((name, longer_ms, (start_ms, key[1])), _Growth())
                    growth.sums.append(fresh)
                    growth.ranges.append(cell.ranges)
        for (name, length_ms, key), growth in grown.items():
            self._pipelines[name].cells[length_ms].setdefault(key, _Cell(0)).take(growth, key[0], length_ms)
        for name in {name for name, *_ in grown}:
            for length_ms in LENGTHS:
                self._pipelines[name].let_go(length_ms, self._keep[length_ms])
        self._dirty, self._pending = [], 0


def _bounded(edges: Edges, length_ms: int) -> Edges:
    if length_ms == MINUTE_MS:
        return limited(edges, MINUTE_RANGES)
    return limited(closed(edges, MARKERS), RANGES)
