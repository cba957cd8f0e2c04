"""Sends the script and watches what comes of it, as any read_committed subscriber could."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from streamer.config.load import Config
from streamer.core.deadletters.envelope import unwrap
from streamer.core.record import Record
from streamer.core.report import Report, read
from streamer.demo.pace import Course, Gauge, course
from streamer.demo.script import Item, Script
from streamer.demo.stage import DemoError
from streamer.errors import DependencyError
from streamer.kafka.reader import Reader
from streamer.kafka.writer import Writer

CLEAR_SCORE = 1.0
"""People's mean score from which on, either way, the sentiment of a tweet counts as clear."""

_STALL_S = 120.0
_LEADERS_WITHIN_S = 15.0
_SENDING_POLL_S = 0.01
_POLL_S = 0.1


class Place(NamedTuple):
    """Where an input record lies."""

    partition: int
    offset: int


class _Source(msgspec.Struct, frozen=True):
    partition: int
    offset: int
    timestamp_ms: int


class _Model(msgspec.Struct, frozen=True):
    name: str
    revision: str


class _Metadata(msgspec.Struct, frozen=True):
    human_score: float


class Result(msgspec.Struct, frozen=True):
    """A result as its subscriber decodes it; `output` stays JSON."""

    id: str
    model: _Model
    output: msgspec.Raw
    cached: bool
    source: _Source
    metadata: _Metadata | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an input: a result, or a dead letter (`code`). `seen_ms` is when it was read."""

    seen_ms: float
    result: Result | None = None
    code: str = ""


@dataclass(slots=True)
class Seen:
    """All that one pipeline wrote."""

    outcomes: dict[Place, list[Outcome]] = field(default_factory=dict)
    results: int = 0
    dead_letters: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    settles: list[int] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many inputs have ended."""
        return len(self.outcomes) + self.skipped.total()


class Watch:
    """Reads all topics of the demo from their present ends on; a context manager."""

    def __init__(self, config: Config, script: Script) -> None:
        self.config = config
        self.script = script
        self.sent = 0
        self.pace = ""
        self.course = Course(0.0, 0, range(0), range(0))
        self.burst_at_ms = 0.0
        self.inputs: dict[Place, Item] = {}
        self.seen = {name: Seen() for name in config.pipelines}
        self.span_records: list[Record] = []
        self._items = {item.value: item for item in script.items}
        (self._input,) = {topic for pipeline in config.pipelines.values() for topic in pipeline.input}
        self._takers: dict[str, Callable[[Record, float], None]] = {
            self._input: self._take_input,
            config.telemetry.reports: self._take_report,
            config.telemetry.spans: lambda record, _: self.span_records.append(record),
        }
        for name, pipeline in config.pipelines.items():
            self._takers[pipeline.output] = self._result_taker(self.seen[name])
            self._takers[pipeline.dead_letter] = self._dead_letter_taker(self.seen[name])
        self._reader = _open_reader(config, self._takers)
        self._writer = Writer(config.kafka)
        # On a stack that was kept, topics hold what earlier demos left.
        self._first = {place: end for place, end in self._reader.ends().items() if place[0] == self._input}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        self._reader.close()

    def wait_ready(self, check: Callable[[], None]) -> None:
        """Send the first record alone, and return when it has ended in every pipeline.

        `check` is called ten times a second or more, here and below; it may raise. Raises DemoError when nothing comes
        any more.
        """
        self._burst(1, check)

    def measure(self, check: Callable[[], None]) -> None:
        """Find out how many records a second both pipelines answer, and plan the rest by it."""
        self.pace = "to measure the capacity"
        first, records = self.sent, self.script.shift
        gauge = Gauge(records, time.monotonic())

        def measured() -> bool:
            due = gauge.due(min(seen.done for seen in self.seen.values()) - first, time.monotonic())
            if gauge.per_s is None:
                self._send(first + due)
            return gauge.per_s is not None

        self._until(measured, check, _SENDING_POLL_S)
        self._until(lambda: self._all_done, check, _POLL_S)
        self.course = course(gauge.per_s or 0.0, self.sent, records)

    def play_live(self, check: Callable[[], None]) -> None:
        """Send the live traffic, each record when it is due, and return when all of it has ended in every pipeline."""
        per_s, live, start = self.course.live_per_s, self.course.live, time.monotonic()
        self.pace = f"live, {per_s} a second"

        def send_due() -> bool:
            self._send(min(live.stop, live.start + 1 + int((time.monotonic() - start) * per_s)))
            return self.sent == live.stop

        self._until(send_due, check, _SENDING_POLL_S)
        self._until(lambda: self._all_done, check, _POLL_S)

    def play_burst(self, check: Callable[[], None]) -> None:
        """Send everything else of the usual mix at once, and return when all of it has ended in every pipeline."""
        self.pace = "the rest at once"
        self.burst_at_ms = time.time() * 1000
        self._burst(len(self.course.burst), check)

    def play_shift(self, check: Callable[[], None]) -> None:
        """Send the other mix at once, and return when all of it has ended: no settle has something of both."""
        self.pace = "another mix"
        self._burst(len(self.script.items) - self.sent, check)

    def finish(self) -> None:
        """Read what is there beyond what was waited for: nothing, or something twice."""
        now_ms = time.time() * 1000
        for record in self._reader.read_until_end():
            self._take(record, now_ms)

    def counts(self) -> str:
        """How far everything is, in a line."""
        parts = [f"{self.sent:,} of {len(self.script.items):,} records sent ({self.pace})"]
        parts += [
            f"{name}: {seen.results:,} results, {seen.dead_letters} dead letters, {seen.skipped.total()} skipped"
            for name, seen in self.seen.items()
        ]
        return "; ".join(parts)

    @property
    def _all_done(self) -> bool:
        return all(seen.done >= self.sent for seen in self.seen.values())

    def _until(self, reached: Callable[[], bool], check: Callable[[], None], poll_s: float) -> None:
        """Receive until `reached`."""
        moved_at, moved = time.monotonic(), -1
        while not reached():
            self._receive(poll_s)
            check()
            now, done = time.monotonic(), self.sent + sum(seen.done for seen in self.seen.values())
            if done != moved:
                moved_at, moved = now, done
            elif now - moved_at > _STALL_S:
                raise DemoError(f"nothing came for {_STALL_S:.0f} s; {self.counts()}")

    def _burst(self, records: int, check: Callable[[], None]) -> None:
        """Send the next records at once, and return when all of them have ended in every pipeline."""
        self._send(self.sent + records)
        self._until(lambda: self._all_done, check, _POLL_S)
        if failed := self._writer.flush().failed:
            raise DemoError(f"Kafka did not take all records: {failed}")

    def _send(self, until: int) -> None:
        for item in self.script.items[self.sent : until]:
            self._writer.write(self._input, item.value, key=item.key, headers=item.headers)
        self.sent = max(self.sent, until)

    def _receive(self, timeout_s: float) -> None:
        records = self._reader.poll(timeout_s)
        now_ms = time.time() * 1000
        for record in records:
            self._take(record, now_ms)

    def _take(self, record: Record, now_ms: float) -> None:
        self._takers[record.topic()](record, now_ms)

    def _take_input(self, record: Record, _: float) -> None:
        self.inputs[Place(record.partition(), record.offset())] = self._items[record.value()]

    def _take_report(self, record: Record, _: float) -> None:
        report = read(record.value())
        seen = self.seen.get(report.pipeline) if report is not None else None
        if (
            report is not None
            and seen is not None
            and report.event is None
            and all(first >= self._first[topic, number] for topic, number, first, _ in report.ranges)
        ):
            seen.skipped.update(report.skipped)
            seen.settles.append(report.records)
            seen.reports.append(report)

    def _result_taker(self, seen: Seen) -> Callable[[Record, float], None]:
        decoder = msgspec.json.Decoder(Result)

        def take(record: Record, now_ms: float) -> None:
            result = decoder.decode(record.value() or b"")
            place = Place(result.source.partition, result.source.offset)
            if self._is_ours(place):
                seen.results += 1
                seen.outcomes.setdefault(place, []).append(Outcome(now_ms, result))

        return take

    def _dead_letter_taker(self, seen: Seen) -> Callable[[Record, float], None]:
        def take(record: Record, now_ms: float) -> None:
            info = unwrap(record.headers() or [])
            if info is None:
                raise DemoError(f"{record.topic()} holds a record that is not a dead letter")
            place = Place(info.partition, info.offset)
            if self._is_ours(place):
                seen.dead_letters += 1
                seen.outcomes.setdefault(place, []).append(Outcome(now_ms, code=info.code))

        return take

    def _is_ours(self, place: Place) -> bool:
        return place.offset >= self._first[self._input, place.partition]


def _open_reader(config: Config, topics: Iterable[str]) -> Reader:
    """A reader from the topics' ends on. Partitions that were created just now may still be without leaders."""
    deadline = time.monotonic() + _LEADERS_WITHIN_S
    while True:
        try:
            return Reader(config.kafka, topics, start="latest")
        except DependencyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def decode_output(result: Result) -> dict[str, Any]:
    """The result's output."""
    output: dict[str, Any] = msgspec.json.decode(result.output)
    return output
