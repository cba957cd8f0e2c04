"""How right models turned out to be: what feedback says of their results, summed by the hour of the event.

A label that is reported again takes the place of what was said before. For that the evidence of each is kept, up to
`most` of them; of older ones only the sums are left. There is no clock: times are given.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from streamer.core.health.feedback.feedback import Place
from streamer.core.health.quality.counts import Count
from streamer.core.health.quality.evidence import Evidence
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import DAY_MS, HOUR_MS
from streamer.core.health.words import WindowKey
from streamer.core.report import BOUNDS, percentile

LENGTHS = HOUR_MS, DAY_MS

MAX_KEPT: Final = 150_000
"""Labels whose evidence is kept, so that they are known as repeated: about 100 MB."""
PAIRS: Final = 1_000
"""Numbers of an hour that a rank correlation is computed from."""


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last feedback on an event: when it was said, when the event was, and what it says of the answer; None where
    the two can't be compared."""

    time_ms: int
    event_ms: int
    revision: str
    evidence: Evidence | None
    weight: Count = 1


class Lags(msgspec.Struct):
    """The times from events to their labels, in seconds."""

    counts: dict[int, int] = {}
    most: int = 0

    def add(self, lag_s: int) -> None:
        """Count one."""
        bound = BOUNDS[min(bisect_left(BOUNDS, lag_s), len(BOUNDS) - 1)]
        self.counts[bound] = self.counts.get(bound, 0) + 1
        self.most = max(self.most, lag_s)

    def merge(self, other: Lags) -> Lags:
        """New counts of both."""
        return Lags(dict(Counter(self.counts) + Counter(other.counts)), max(self.most, other.most))

    def keeps(self, share: float) -> int | None:
        """The seconds that this share of labels keeps, None without any."""
        return percentile(self.counts, share, self.most)


class Grade(NamedTuple):
    """What feedback says of a window: how right the answers were, how late it came, how many results have any, and how
    many of those could not be compared with theirs."""

    key: WindowKey
    quality: Quality
    lags: Lags
    places: int
    unjudged: int


class Hour(NamedTuple):
    """The hour in which a label counts."""

    pipeline: str
    revision: str
    start_ms: int


@dataclass(slots=True)
class _Cell:
    """One hour. `closed` are the sums of labels whose evidence is gone; `sums` those of all, and `saved` is what a
    snapshot has of it, both None until asked for."""

    closed: Quality = field(default_factory=Quality)
    closed_places: int = 0
    closed_unjudged: int = 0
    lags: Lags = field(default_factory=Lags)
    kept: dict[Place, Kept] = field(default_factory=dict)
    sums: Quality | None = None
    saved: msgspec.Raw | None = None

    def total(self) -> Quality:
        """The sums of all."""
        if self.sums is None:
            self.sums = copy.deepcopy(self.closed)
            for place, kept in self.kept.items():
                _count(self.sums, place, kept)
        return self.sums


class Saved(msgspec.Struct, array_like=True):
    """An hour, as a snapshot has it; the pipeline of its places is that of the hour."""

    hour: Hour
    closed: Quality
    closed_places: int
    closed_unjudged: int
    lags: Lags
    kept: list[tuple[str, int, int, Kept]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Saved).decode


class Realised:
    """The labels of all pipelines."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._cells: dict[Hour, _Cell] = {}
        self._seen: OrderedDict[Place, Hour] = OrderedDict()
        self.changed: set[WindowKey] = set()
        """Windows that have changed since they were taken out of this."""

    def known(self, place: Place) -> Kept | None:
        """What is known of an event."""
        hour = self._seen.get(place)
        return self._cells[hour].kept[place] if hour is not None else None

    def put(self, place: Place, kept: Kept, lag_s: int | None) -> bool:
        """Count a label; what was said of the event before no longer counts. Whether there was such."""
        hour = Hour(place.pipeline, kept.revision, kept.event_ms // HOUR_MS * HOUR_MS)
        before = self._seen.pop(place, None)
        if before is not None:
            cell = self._cells[before]
            del cell.kept[place]
            cell.sums = None
            self._touch(before)
        cell = self._cells.setdefault(hour, _Cell())
        cell.kept[place] = kept
        self._seen[place] = hour
        self._touch(hour)
        if cell.sums is not None:
            _count(cell.sums, place, kept)
        if before is None and lag_s is not None:
            cell.lags.add(lag_s)
        if len(self._seen) > self._most:
            self._close(*self._seen.popitem(last=False))
        return before is not None

    def forget(self, before_ms: int) -> None:
        """Let go of the hours that ended before then."""
        for hour in [hour for hour in self._cells if hour.start_ms + HOUR_MS <= before_ms]:
            for place in self._cells.pop(hour).kept:
                del self._seen[place]

    def grades(self, pipeline: str, length_ms: int, since_ms: int = 0) -> list[Grade]:
        """The windows of this length that end after then, by start and revision."""
        found: dict[WindowKey, list[_Cell]] = {}
        for hour, cell in self._cells.items():
            start_ms = hour.start_ms // length_ms * length_ms
            if hour.pipeline == pipeline and start_ms + length_ms > since_ms:
                key = WindowKey(pipeline, hour.revision, start_ms, length_ms)
                found.setdefault(key, []).append(cell)
        order = sorted(found, key=lambda key: (key.start_ms, key.revision))
        return [grade for key in order if (grade := _grade(key, found[key])) is not None]

    def grade(self, key: WindowKey) -> Grade | None:
        """One window, of whatever length; None where it has no label."""
        own = key.pipeline, key.revision
        cells = [
            cell for hour, cell in self._cells.items() if hour[:2] == own and key.start_ms <= hour.start_ms < key.end_ms
        ]
        return _grade(key, cells)

    def pipelines(self) -> dict[str, set[str]]:
        """The pipelines that have labels, each with its revisions."""
        found: dict[str, set[str]] = {}
        for hour in self._cells:
            found.setdefault(hour.pipeline, set()).add(hour.revision)
        return found

    def saved(self) -> list[msgspec.Raw]:
        """All of it; `restore` goes on from there. Hours that have not changed since are not encoded again."""
        found = []
        for hour, cell in self._cells.items():
            if cell.saved is None:
                kept = [(*place[1:], kept) for place, kept in cell.kept.items()]
                one = Saved(hour, cell.closed, cell.closed_places, cell.closed_unjudged, cell.lags, kept)
                cell.saved = msgspec.Raw(_encode(one))
            found.append(cell.saved)
        return found

    def restore(self, saved: Iterable[msgspec.Raw]) -> None:
        """Go on from there. Raises msgspec.MsgspecError, and nothing has changed, where one is nothing of ours."""
        for each in [_decode(one) for one in saved]:
            kept = {Place(each.hour.pipeline, *place): kept for *place, kept in each.kept}  # type: ignore[arg-type]
            self._cells[each.hour] = _Cell(each.closed, each.closed_places, each.closed_unjudged, each.lags, kept)
            self._touch(each.hour)
        in_order = sorted(
            ((kept.time_ms, place, hour) for hour, cell in self._cells.items() for place, kept in cell.kept.items())
        )
        self._seen = OrderedDict((place, hour) for _, place, hour in in_order)

    def _close(self, place: Place, hour: Hour) -> None:
        cell = self._cells[hour]
        kept = cell.kept.pop(place)
        _count(cell.closed, place, kept)
        cell.saved = None
        cell.closed_places += 1
        cell.closed_unjudged += kept.evidence is None

    def _touch(self, hour: Hour) -> None:
        self._cells[hour].saved = None
        self.changed.update(_keys(hour))


def _grade(key: WindowKey, cells: Sequence[_Cell]) -> Grade | None:
    quality, lags, places, unjudged = Quality(), Lags(), 0, 0
    for cell in cells:
        quality = quality.merge(cell.total())
        lags = lags.merge(cell.lags)
        places += cell.closed_places + len(cell.kept)
        unjudged += cell.closed_unjudged + sum(kept.evidence is None for kept in cell.kept.values())
    return Grade(key, quality, lags, places, unjudged) if places else None


def _keys(hour: Hour) -> Iterator[WindowKey]:
    for length_ms in LENGTHS:
        yield WindowKey(hour.pipeline, hour.revision, hour.start_ms // length_ms * length_ms, length_ms)


def _count(quality: Quality, place: Place, kept: Kept) -> None:
    if kept.evidence is not None:
        _, topic, partition, offset = place
        quality.count(kept.evidence, f"{topic}/{partition}/{offset}".encode(), kept.weight, PAIRS)
