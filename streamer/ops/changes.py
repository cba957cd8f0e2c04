"""Reads what changed from the reports topic."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from streamer.core.changes import Change, Changes
from streamer.core.record import TopicPartition
from streamer.core.report import read

BEFORE_RECORDS: Final = 1_000
"""Read of each partition before the time that is asked for, to know what was then; transaction markers count."""


class Offsets(Protocol):
    """What the brokers know of a topic's offsets."""

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions."""
        ...

    def ends(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset after the last committed record."""
        ...

    def at_time(self, partitions: Iterable[TopicPartition], time_ms: int) -> Mapping[TopicPartition, int]:
        """The first offset of that time or later; none where there is no later record."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """The changes by time, how many reports were written since, and the pipelines of all that were read."""

    changes: list[Change]
    reports: int
    pipelines: frozenset[str]


def records_back(offsets: Offsets, topic: str, since_ms: int) -> int:
    """How many of the last records of each partition tell what there is to know since then."""
    partitions = offsets.partitions([topic])
    ends = offsets.ends(partitions)
    starts = offsets.at_time(partitions, since_ms)
    return max((ends[each] - start for each, start in starts.items()), default=0) + BEFORE_RECORDS


def changes_of(values: Iterable[bytes | None], since_ms: int, pipelines: Collection[str] = ()) -> Found:
    """What changed of these pipelines, or of all; what is no report is passed over."""
    changes, reports, names = Changes(since_ms), 0, set()
    for value in values:
        report = read(value)
        if report is None:
            continue
        names.add(report.pipeline)
        if pipelines and report.pipeline not in pipelines:
            continue
        reports += report.time_ms >= since_ms
        changes.add(report)
    return Found(sorted(changes.found, key=lambda change: change.time_ms), reports, frozenset(names))
