"""What a pipeline has settled, counted, and how people are told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec

from streamer.core.pipeline.protocol import Settled, Unsettled
from streamer.core.record import TopicPartition
from streamer.core.report import Report

MOST_RANGES = 6


def is_durable(fact: Settled | Unsettled, report: Report) -> bool:
    """Whether the plan that this report tells of became durable. It did, too, where the commit got no answer and the
    committed offsets lie behind all of its records: a transaction takes effect whole or not at all."""
    if isinstance(fact, Settled):
        return True
    return bool(report.ranges) and all(
        fact.committed.get((topic, partition), -1) > last for topic, partition, _, last in report.ranges
    )


@dataclass(slots=True)
class Tally:
    """Outcomes that are durable; `cached` are those results that came from memory or Redis."""

    results: int = 0
    cached: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, report: Report) -> None:
        """Count what one settle did."""
        self.results += report.results
        self.cached += report.cached
        self.dead_letters.update(report.dead_letters)
        self.skipped.update(report.skipped)

    @property
    def records(self) -> int:
        """Records that have their outcome."""
        return self.results + self.dead_letters.total() + self.skipped.total()

    def copy(self) -> Tally:
        """As it is now."""
        return Tally(self.results, self.cached, self.dead_letters.copy(), self.skipped.copy())

    def since(self, before: Tally) -> Tally:
        """What came after `before`."""
        return Tally(
            self.results - before.results,
            self.cached - before.cached,
            self.dead_letters - before.dead_letters,
            self.skipped - before.skipped,
        )

    def fields(self) -> dict[str, Any]:
        """For a line of the log."""
        return {
            "results": self.results,
            "dead_letters": dict(self.dead_letters),
            "skipped": dict(self.skipped),
            "cached": self.cached,
        }

    def __str__(self) -> str:
        cached = f" ({self.cached:,} cached)" if self.cached else ""
        return (
            f"{plural(self.results, 'result')}{cached}, {counted(self.dead_letters, 'dead letter')}, "
            f"{self.skipped.total():,} skipped{_named(self.skipped)}"
        )


class Vitals(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a pipeline does now. `waits_for` is what it waits for, "" while it serves, and
    since when; `rate` are results a second."""

    waits_for: str = ""
    waited_s: float = 0.0
    rate: float = 0.0
    lag_records: int = 0
    lag_s: float = 0.0
    dead_letters: int = 0


def live_words(pipelines: Mapping[str, Vitals]) -> str:
    """The live line: of one pipeline, or the sum of several."""
    vitals = list(pipelines.values())
    lag_s = max((each.lag_s for each in vitals), default=0.0)
    parts = [
        f"{sum(each.rate for each in vitals):,.0f} results/s",
        lag_words(sum(each.lag_records for each in vitals), lag_s),
        counted(Counter({"": sum(each.dead_letters for each in vitals)}), "dead letter"),
    ]
    waiting = {name: f"{each.waits_for} ({each.waited_s:.0f} s)" for name, each in pipelines.items() if each.waits_for}
    if len(pipelines) == 1:
        name, *_ = pipelines
        return f"{name}: {' · '.join([f'waiting for {waiting[name]}'] if waiting else parts)}"
    what = "members" if any("/" in name for name in pipelines) else "pipelines"
    running = f"{len(pipelines) - len(waiting)} of {len(pipelines)} {what} running"
    return " · ".join([running, *parts, *(f"{name} waits for {what}" for name, what in waiting.items())])


def lag_words(records: int, seconds: float) -> str:
    """How far behind."""
    return f"{records:,} behind ({duration(seconds)})" if records else "nothing waits"


def counted(codes: Counter[str], what: str) -> str:
    """How many there are, and of which codes."""
    return f"{plural(codes.total(), what)}{_named(codes)}"


def plural(count: float, what: str) -> str:
    """`1 result`, `2 results`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def duration(seconds: float | None) -> str:
    """A time for people, in one unit; `?` when it is not known."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 100:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if hours < 72 else f"{days:.0f} d"


def places(partitions: Iterable[TopicPartition]) -> str:
    """Partitions by topic, those that follow one another as a range: `reviews/0-2,5`."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in sorted(set(partitions)):
        by_topic.setdefault(topic, []).append(partition)
    return " ".join(f"{topic}/{_ranges(numbers)}" for topic, numbers in by_topic.items()) or "none"


def _ranges(numbers: Sequence[int]) -> str:
    found = []
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        found.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ",".join(found if len(found) <= MOST_RANGES else [*found[:MOST_RANGES], "…"])


def _named(codes: Counter[str]) -> str:
    named = [f"{code} {count:,}" for code, count in codes.most_common() if code and count]
    return f" ({', '.join(named)})" if named else ""
