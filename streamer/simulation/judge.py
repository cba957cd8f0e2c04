"""Watches everything that becomes durable, and knows the laws."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from streamer.core import headers as names
from streamer.core.events.framed import FRAME_BYTES
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import Input, Taken
from streamer.core.record import Answer, TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.simulation.scenario import BURIED, CRASHES_ALONE, ENDINGS, Scenario
from streamer.testing import Kills, LogError, MemoryLog, MemoryRecord

INPUT, OUTPUT, DEAD_LETTERS = "in", "out", "out.dlq"
LAST_STEPS = 30
SILENCE_S = 60.0
MOST_PROCESSES = 24  # the limit of 6, counted from zero when a partition goes to another member in order

Step = tuple[float, str, Input | str]


class ViolationError(Exception):
    """A law was broken."""

    def __init__(self, seed: int, step: int, anomaly: str, last_steps: list[Step]) -> None:
        self.seed = seed
        self.step = step
        self.anomaly = anomaly
        self.last_steps = last_steps
        super().__init__(seed, step, anomaly, last_steps)

    def __str__(self) -> str:
        lines = [f"  {at:9.4f} s  {who:<12} {_told(what)}" for at, who, what in self.last_steps]
        return f"seed {self.seed}, step {self.step}: {self.anomaly}\n" + "\n".join(lines)


class BrokenLawError(Exception):
    """What `Judge` raises; the world adds seed and step."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a record must end as: its result's output, or the codes that its dead letter may have, or neither."""

    output: bytes | None = None
    codes: frozenset[str] = frozenset()


class Judge:
    """Laws 1 to 4, 6 and 7, at every commit and every step."""

    def __init__(self, scenario: Scenario, log: MemoryLog) -> None:
        self.outcomes = Counter[str]()
        self._scenario = scenario
        self._log = log
        self._expected: dict[tuple[int, int], _Expected] = {}
        self._seen: dict[tuple[int, int], str] = {}
        self._committed: dict[int, int] = {}
        self._read: dict[TopicPartition, int] = {}
        self._newest: dict[TopicPartition, int] = {}
        self._ordered: set[tuple[int, int]] = set()
        self._deaths = Counter[tuple[int, int]]()
        self._taken_down = Counter[str]()
        self._handed: dict[tuple[int, int], set[int]] = {}
        self._waits: dict[TopicPartition, tuple[tuple[int, tuple[int, ...]], float]] = {}
        log.on_visible.append(self._visible)
        log.on_stable.append(self._stable)

    # --- what was written --------------------------------------------------------------------------------------------

    def _visible(self, records: list[MemoryRecord]) -> None:
        for record in records:
            topic = record.topic()
            if topic == INPUT:
                self._expected[record.partition(), record.offset()] = self._expect(record.value())
            elif topic == OUTPUT:
                self._result(record)
            elif topic == DEAD_LETTERS:
                self._dead_letter(record)

    def _expect(self, value: bytes | None) -> _Expected:
        if value is None:
            return _Expected()
        try:
            text = msgspec.json.decode(value[FRAME_BYTES:] if self._scenario.framed else value)["text"]
        except msgspec.DecodeError:
            return _Expected(codes=frozenset({"decode.json"}))
        if kind := self._scenario.poison.get(text):
            return _Expected(codes=ENDINGS[kind])
        answer = self._scenario.reactions.get(text)
        return _Expected(answer.output if isinstance(answer, Answer) else None)

    def _result(self, record: MemoryRecord) -> None:
        place = _place_of_result(record)
        expected = self._ended(place, OUTPUT)
        if expected.output is None:
            raise BrokenLawError(f"law 4: {_name(place)} has a result and must not have one")
        if b'"output":' + expected.output + b"," not in (record.value() or b""):
            raise BrokenLawError(f"law 3: the result of {_name(place)} is not the answer to its text")

    def _dead_letter(self, record: MemoryRecord) -> None:
        found = dict(record.headers() or ())
        place = _place_of_dead_letter(record)
        expected = self._ended(place, DEAD_LETTERS)
        code = (found[names.ERROR_CODE] or b"").decode()
        if expected.output is not None:
            raise BrokenLawError(f"law 3: the good record {_name(place)} was dead-lettered as {code}")
        if code not in expected.codes:
            raise BrokenLawError(f"law 4: {_name(place)} was dead-lettered as {code}, not {sorted(expected.codes)}")
        if code == BURIED and len(self._handed.get(place, ())) < CRASHES_ALONE:
            raise BrokenLawError(
                f"law 4: {_name(place)} was dead-lettered as {code}, and too few processes ever had it"
            )
        self.outcomes[code] += 1

    def _ended(self, place: tuple[int, int], topic: str) -> _Expected:
        expected = self._expected.get(place)
        if expected is None:
            raise BrokenLawError(f"law 1: {_name(place)} has an outcome and was never written or committed")
        before = self._seen.get(place)
        if before is not None and (self._scenario.exactly_once or before != topic):
            raise BrokenLawError(f"law 1: {_name(place)} ended twice, in {before} and in {topic}")
        self._seen[place] = topic
        return expected

    def _stable(self, key: TopicPartition) -> None:
        """Order, as a read_committed reader sees it."""
        topic, partition = key
        if topic == INPUT:
            return
        records, self._read[key] = self._log.read(key, self._read.get(key, 0), 1 << 30)
        place_of = _place_of_result if topic == OUTPUT else _place_of_dead_letter
        for record in records:
            place = place_of(record)
            if place[0] != partition:
                raise BrokenLawError(f"law 2: the outcome of {_name(place)} went to partition {partition}")
            if place in self._ordered:
                continue
            self._ordered.add(place)
            if place[1] < self._newest.get(key, -1):
                raise BrokenLawError(f"law 2: {_name(place)} was published after {self._newest[key]}")
            self._newest[key] = place[1]

    def offsets(self, offsets: dict[TopicPartition, int]) -> None:
        """Offsets were committed: all below must have ended."""
        for (_, partition), offset in offsets.items():
            before = self._committed.get(partition, 0)
            if offset < before:
                raise BrokenLawError(f"law 1: the committed offset of {partition} went back from {before} to {offset}")
            for passed in range(before, offset):
                self._check_passed((partition, passed))
            self._committed[partition] = offset

    def _check_passed(self, place: tuple[int, int]) -> None:
        expected = self._expected.get(place)
        if expected is None or place in self._seen:
            return
        if expected.output is not None or expected.codes:
            raise BrokenLawError(f"law 1: {_name(place)} has no outcome, and the committed offset passed it")
        self.outcomes["skipped"] += 1

    # --- what went on ------------------------------------------------------------------------------------------------

    def stepped(self, pipeline: Pipeline, largest_micro_batch_bytes: int) -> None:
        """Law 6, after each fact. What waits for schemas may fill the budget, and others get as much again."""
        flow, budgets = pipeline.flow, 2 if self._scenario.framed else 1
        if not 0 <= flow.in_flight_bytes <= budgets * flow.budget_bytes + largest_micro_batch_bytes:
            raise BrokenLawError(
                f"law 6: {flow.in_flight_bytes} bytes are in flight, the budget is {flow.budget_bytes}"
            )

    def handed(self, process: int, place: tuple[int, int]) -> None:
        """A process took a record, to be looked at."""
        self._handed.setdefault(place, set()).add(process)

    def died(self, process: int, number: int, text: str) -> None:
        """A text ended a worker; each may cost so many."""
        self._deaths[process, number] += 1
        reaction = self._scenario.reactions[text]
        most = 4 if isinstance(reaction, Kills) and reaction.signal == signal.SIGKILL else 3
        if self._deaths[process, number] > most:
            raise BrokenLawError(f"law 4: one text ended {self._deaths[process, number]} workers of one process")

    def stands_still(self, reasons: list[str]) -> None:
        """A driver that takes its turns says that it does not."""
        raise BrokenLawError(f"liveness: {'; '.join(reasons)}")

    def taken_down(self, text: str) -> None:
        """A text ended a whole process; each may cost so many."""
        self._taken_down[text] += 1
        if self._taken_down[text] > MOST_PROCESSES:
            raise BrokenLawError(f"law 4: {text} ended {self._taken_down[text]} processes")

    def unanswered(self, key: TopicPartition) -> bool:
        """Whether there is a record of this partition that the committed offset has not passed: one to be read, or one
        that can't be, for an open transaction or a fault of the log."""
        try:
            found, _ = self._log.read(key, self._committed.get(key[1], 0), 1)
        except LogError:
            return True
        return bool(found) or self._log.last_stable_offset(key) < self._log.end_offset(key)

    def look(self, owners: Mapping[TopicPartition, tuple[int, ...]], told: Callable[[TopicPartition], bool]) -> None:
        """The law of signals: no record of a partition is there for a minute without an answer while the same processes
        own the partition, whose numbers are `owners`, and tell nothing."""
        now = self._log.clock.now
        for key, who in owners.items():
            at = self._committed.get(key[1], 0), who
            before, since = self._waits.get(key, (at, now))
            if at != before or not self.unanswered(key) or told(key):
                since = now
            self._waits[key] = at, since
            if now - since > SILENCE_S:
                place = _name((key[1], at[0]))
                raise BrokenLawError(
                    f"law 7: {place} has had no answer for {now - since:.0f} s, and all signals are well"
                )

    def others_go_on(self, standings: Iterable[Standing]) -> None:
        """Law 8, while the schema registry lags: what a process says to stand it says to stand for a known cause; a
        partition whose schemas are known does not wait for one whose are not."""
        for one in standings:
            if one.reason is Reason.UNKNOWN:
                raise BrokenLawError(f"law 8: {one}, although its schemas are known")

    def missing(self) -> list[str]:
        """Records without outcome, and partitions whose committed offset does not say so."""
        missing = [
            _name(place)
            for place, expected in self._expected.items()
            if place not in self._seen and (expected.output is not None or expected.codes)
        ]
        return missing + [
            f"the committed offset of {key[1]} is {self._committed.get(key[1])}"
            for key in self._log.partitions_of([INPUT])
            if self.unanswered(key)
        ]


def _place_of_result(record: MemoryRecord) -> tuple[int, int]:
    for name, value in record.headers() or ():
        if name == names.CE_ID and value is not None:
            _, _, partition, offset = value.split(b"/")
            return int(partition), int(offset)
    raise BrokenLawError("a result has no ce_id")


def _place_of_dead_letter(record: MemoryRecord) -> tuple[int, int]:
    found = dict(record.headers() or ())
    return int(found[names.CONNECT_PARTITION] or b""), int(found[names.CONNECT_OFFSET] or b"")


def _name(place: tuple[int, int]) -> str:
    return f"{place[0]}/{place[1]}"


def _told(what: Input | str) -> str:
    if isinstance(what, Taken):
        parts = [
            f"{one.partition}: {one.records[0].offset()}-{one.records[-1].offset()} (epoch {one.epoch})"
            for one in what.batch.segments
        ]
        return f"Taken {', '.join(parts)}"
    text = what if isinstance(what, str) else repr(what)
    return text if len(text) <= 160 else text[:157] + "…"
