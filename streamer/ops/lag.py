"""How far behind pipelines are: by records, by time, and by how long it will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.config.load import Config
from streamer.core.backlog import caught_up_s, drain_s
from streamer.core.onlooker import View, missing, standing
from streamer.core.record import TopicPartition
from streamer.core.report import read
from streamer.core.standing import Standing


class Offsets(Protocol):
    """What the cluster knows of topics and of a group's offsets."""

    def counts(self, topics: Iterable[str]) -> Mapping[str, int]:
        """How many partitions each topic has: 0 where it does not exist, no entry where we may not see it."""
        ...

    def views_of(self, asked: Sequence[tuple[str, Sequence[str], str]]) -> list[list[View]]:
        """For each group, given by its name, topics and start: all partitions of the topics, as they lie before it. The
        start is where it begins that has settled nothing."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition. `settled` is None before the first settle: then what counts begins where the pipeline would
    start. `end` is where open transactions begin; `records` counts what lies behind it too, and may count transaction
    markers, except that it is 0 where nothing else is left. `seconds` is the age of the first record that is not
    settled, None where it is not known. Rates are records a second between two looks, None at the first.
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
    """One pipeline: its partitions, what its reports say of tokens a record (None without reports), and what stands as
    far as the brokers alone tell."""

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
        """Count a report; anything else is skipped."""
        report = read(value)
        if report is None:
            return
        tokens, records = self._seen.get(report.pipeline, (0, 0))
        self._seen[report.pipeline] = (tokens + report.tokens, records + report.records)

    def per_record(self, pipeline: str) -> float | None:
        """The mean; None where no report tells."""
        tokens, records = self._seen.get(pipeline, (0, 0))
        return tokens / records if tokens and records else None


class LagWatch:
    """Looks at some pipelines again and again; rates come with the second look."""

    def __init__(self, config: Config, pipelines: Iterable[str], offsets: Offsets, tokens: Tokens) -> None:
        self._offsets = offsets
        self._address = config.kafka.bootstrap_servers
        self._tokens = tokens
        self._pipelines = {name: config.pipelines[name] for name in pipelines}
        self._before: dict[str, tuple[float, dict[TopicPartition, tuple[int, int]]]] = {}

    def look(self, now_s: float, names: Iterable[str] | None = None) -> list[PipelineLag]:
        """Each pipeline, or each of these, as it is at `now_s`, seconds since the epoch; all by one batch of
        requests."""
        chosen = {name: self._pipelines[name] for name in names or self._pipelines}
        written = {
            name: [each.output, each.dead_letter] if each.partitioning == "same" else []
            for name, each in chosen.items()
        }
        counts = self._offsets.counts(
            dict.fromkeys(topic for name, each in chosen.items() for topic in (*each.input, *written[name]))
        )
        inputs = {name: [topic for topic in each.input if counts.get(topic) != 0] for name, each in chosen.items()}
        asked = {name: (each.group, inputs[name], each.start) for name, each in chosen.items() if inputs[name]}
        views = dict(zip(asked, self._offsets.views_of(list(asked.values())), strict=True)) if asked else {}
        return [
            self._pipeline(name, views.get(name, []), missing(each.input, written[name], counts), now_s)
            for name, each in chosen.items()
        ]

    def _pipeline(self, name: str, views: list[View], lacking: Iterable[Standing], now_s: float) -> PipelineLag:
        pipeline, now_ms = self._pipelines[name], now_s * 1000
        stands = list(lacking)
        since_s, before = self._before.get(name, (now_s, {}))
        self._before[name] = now_s, {view.partition: (view.start, view.high) for view in views}
        partitions = []
        for view in views:
            rates: tuple[float | None, float | None] = None, None
            if view.partition in before and now_s > since_s:
                start, end = before[view.partition]
                over_s = now_s - since_s
                rates = (view.high - end) / over_s, (view.start - start) / over_s
            partitions.append(
                PartitionLag(*view.partition, view.settled, view.end, view.records, view.age_s(now_ms), *rates)
            )
            stands += standing(view, now_ms, group=pipeline.group, address=self._address)
        return PipelineLag(name, pipeline.group, partitions, self._tokens.per_record(name), stands)


def _sum(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None
