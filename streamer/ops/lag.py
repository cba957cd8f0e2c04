"""How far behind pipelines are: by records, by time, and by how long it will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from streamer.config import Config, start_time_ms
from streamer.core.backlog import caught_up_s, drain_s
from streamer.core.record import TopicPartition
from streamer.core.report import Report
from streamer.core.standing import Standing


class Offsets(Protocol):
    """What the cluster knows of topics and of a group's offsets."""

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics. Raises ConfigurationError for a missing one."""
        ...

    def committed(self, group: str, partitions: Iterable[TopicPartition] = ()) -> Mapping[TopicPartition, int]:
        """The offsets that the group has settled."""
        ...

    def held(self, group: str, partitions: Iterable[TopicPartition]) -> list[Standing]:
        """Which of these partitions the group's pipeline holds."""
        ...

    def earliest(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset that is still there."""
        ...

    def ends(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset after the last committed record."""
        ...

    def at_time(self, partitions: Iterable[TopicPartition], time_ms: int) -> Mapping[TopicPartition, int]:
        """The first offset of that time or later."""
        ...

    def first_ms(self, starts: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """When the first record at or after each offset was written; no entry where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition. `settled` is None before the first settle: then what counts begins where the pipeline would
    start. `records` may count transaction markers, except that it is 0 where nothing else is left. `seconds` is the
    age of the first record that is not settled, None where it has no timestamp. Rates are records a second between
    two looks, None at the first.
    """

    topic: str
    partition: int
    settled: int | None
    end: int
    records: int
    seconds: float | None
    rate_in: float | None = None
    rate_out: float | None = None

    @property
    def drain_s(self) -> float | None:
        """Seconds to settle what waits at the present rate; None when it is not known."""
        return 0.0 if not self.records else drain_s(self.records, self.rate_out or 0.0)


@dataclass(frozen=True, slots=True)
class PipelineLag:
    """One pipeline: its partitions, those that are held, and what its reports say of tokens a record (None without
    reports)."""

    pipeline: str
    group: str
    partitions: list[PartitionLag]
    tokens_per_record: float | None = None
    standing: list[Standing] = field(default_factory=list)

    @property
    def records(self) -> int:
        """Records behind."""
        return sum(each.records for each in self.partitions)

    @property
    def seconds(self) -> float | None:
        """Age of the oldest record that is not settled."""
        ages = [each.seconds for each in self.partitions if each.seconds is not None]
        return max(ages) if ages else None

    @property
    def rate_in(self) -> float | None:
        """Records a second that arrive."""
        return _sum(each.rate_in for each in self.partitions)

    @property
    def rate_out(self) -> float | None:
        """Records a second that are settled."""
        return _sum(each.rate_out for each in self.partitions)

    @property
    def drain_s(self) -> float | None:
        """Seconds to settle what waits at the present rate; None when it is not known."""
        return 0.0 if not self.records else drain_s(self.records, self.rate_out or 0.0)

    @property
    def caught_up_s(self) -> float | None:
        """Seconds until nothing waits, arrivals counted; None while it falls behind or stands."""
        return caught_up_s(self.records, self.rate_in or 0.0, self.rate_out or 0.0)

    @property
    def tokens(self) -> float | None:
        """Tokens behind, as far as the last reports tell."""
        return None if self.tokens_per_record is None else self.records * self.tokens_per_record


@dataclass(slots=True)
class Tokens:
    """Tokens a record of each pipeline, from its reports."""

    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, value: bytes | None) -> None:
        """Count a report; what is none is passed over."""
        try:
            report = msgspec.json.decode(value or b"", type=Report)
        except msgspec.MsgspecError:
            return
        tokens, records = self._seen.get(report.pipeline, (0, 0))
        settled = report.results + sum(report.dead_letters.values()) + sum(report.skipped.values())
        self._seen[report.pipeline] = (tokens + report.tokens, records + settled)

    def per_record(self, pipeline: str) -> float | None:
        """The mean; None where no report tells."""
        tokens, records = self._seen.get(pipeline, (0, 0))
        return tokens / records if tokens and records else None


class LagWatch:
    """Looks at some pipelines again and again; rates come with the second look."""

    def __init__(self, config: Config, pipelines: Iterable[str], offsets: Offsets, tokens: Tokens) -> None:
        self._offsets = offsets
        self._tokens = tokens
        self._pipelines = {name: config.pipelines[name] for name in pipelines}
        self._before: dict[str, tuple[float, dict[TopicPartition, tuple[int, int]]]] = {}

    def look(self, now_s: float) -> list[PipelineLag]:
        """Each pipeline as it is at `now_s`, seconds since the epoch."""
        return [self._pipeline(name, now_s) for name in self._pipelines]

    def _pipeline(self, name: str, now_s: float) -> PipelineLag:
        pipeline, offsets = self._pipelines[name], self._offsets
        places = offsets.partitions(pipeline.input)
        # Settled offsets first: what is settled meanwhile then counts as behind, and never as less than nothing.
        settled = offsets.committed(pipeline.group, places)
        ends = offsets.ends(places)
        starts = {**self._fresh([each for each in places if each not in settled], pipeline.start, ends), **settled}
        first_ms = offsets.first_ms({each: starts[each] for each in places if starts[each] < ends[each]})
        since_s, before = self._before.get(name, (now_s, {}))
        self._before[name] = now_s, {each: (starts[each], ends[each]) for each in places}
        partitions = []
        for place in places:
            records: int = 0
            seconds: float | None = 0.0  # behind the settled offset there is nothing, or only transaction markers
            if place in first_ms:
                records = ends[place] - starts[place]
                seconds = max(now_s - first_ms[place] / 1000, 0.0) if first_ms[place] else None
            rates: tuple[float | None, float | None] = None, None
            if place in before and now_s > since_s:
                start, end = before[place]
                over_s = now_s - since_s
                rates = (ends[place] - end) / over_s, (starts[place] - start) / over_s
            partitions.append(PartitionLag(*place, settled.get(place), ends[place], records, seconds, *rates))
        held = offsets.held(pipeline.group, places)
        return PipelineLag(name, pipeline.group, partitions, self._tokens.per_record(name), held)

    def _fresh(
        self, places: list[TopicPartition], start: str, ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Where a pipeline would start that has settled nothing there."""
        if not places or start == "latest":
            return {each: ends[each] for each in places}
        time_ms = start_time_ms(start)
        if time_ms is None:
            return dict(self._offsets.earliest(places))
        found = self._offsets.at_time(places, time_ms)
        return {each: found.get(each, ends[each]) for each in places}


def _sum(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None
