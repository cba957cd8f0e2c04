"""Single events on their way: sent when they are due, timed when a read_committed reader sees their results."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from streamer.bench.harness.bench import PARTITIONS, Bench, Setup
from streamer.bench.harness.program import BenchError
from streamer.bench.harness.workload import Event
from streamer.kafka.clients import make_producer, writer_properties
from streamer.kafka.reader import Reader

WARM_UP_PAUSE_S = 0.1
WARM_UP_S = 120.0
LATE_S = 60.0


class _Result(msgspec.Struct):
    id: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event that is due `at_s` after the start, on the way number `way`."""

    at_s: float
    way: int
    event: Event


@dataclass(slots=True)
class Seen:
    """What came back on one way: when each event was sent and its result seen, in seconds of one clock."""

    sent: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    repeats: int = 0

    @property
    def latencies_ms(self) -> list[float]:
        """The time from handing each event to the producer's client to having its result in hand."""
        return [(at - self.sent[name]) * 1000 for name, at in self.seen.items()]


class Traffic:
    """Sends to the inputs of some set-ups and reads their outputs. A context manager."""

    def __init__(self, bench: Bench, setups: Sequence[Setup]) -> None:
        self._inputs = [setup.input for setup in setups]
        self._ways = {setup.output: way for way, setup in enumerate(setups)}
        self._producer = make_producer({**writer_properties(bench.kafka), "linger.ms": 0})
        self._reader = Reader(bench.kafka, self._ways, start="latest")
        self._decode = msgspec.json.Decoder(_Result).decode
        self._turn = 0
        self.now: list[Seen] = [Seen() for _ in setups]

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._producer.purge()
        self._producer.close()

    def warm_up(self, events: Iterator[Event]) -> None:
        """Send events until every way has answered; then wait until all of them are answered, and forget them."""
        deadline = time.monotonic() + WARM_UP_S
        while not all(seen.seen for seen in self.now):
            if time.monotonic() > deadline:
                raise BenchError(f"no result within {WARM_UP_S:.0f} s")
            for way in range(len(self.now)):
                self.send(way, next(events))
            self.read(WARM_UP_PAUSE_S)
        self.drain()
        self.forget()

    def run(self, arrivals: Sequence[Arrival]) -> list[Seen]:
        """Send each event when it is due, whatever has come back; returns when all have."""
        sender = threading.Thread(target=self._send_all, args=(arrivals,), name="sender")
        sender.start()
        while sender.is_alive():
            self.read(0.05)
        sender.join()
        self.drain()
        seen = self.now
        self.forget()
        return seen

    def send(self, way: int, event: Event) -> None:
        """Send one event now."""
        name = self._decode(event.value).id
        self._turn += 1
        self.now[way].sent[name] = time.perf_counter()
        self._producer.produce(
            self._inputs[way], event.value, event.key, self._turn % PARTITIONS, headers=[*event.headers]
        )
        self._producer.poll(0)

    def read(self, timeout_s: float) -> None:
        """Take in what is there, waiting for the first result up to `timeout_s`."""
        records = self._reader.poll(timeout_s)
        at = time.perf_counter()
        for record in records:
            name = self._decode(record.value() or b"").id
            seen = self.now[self._ways[record.topic()]]
            if name in seen.sent and seen.seen.setdefault(name, at) != at:
                seen.repeats += 1

    def drain(self) -> None:
        """Wait for the results of all that was sent."""
        deadline = time.monotonic() + LATE_S
        while missing := sum(len(seen.sent) - len(seen.seen) for seen in self.now):
            if time.monotonic() > deadline:
                raise BenchError(f"{missing} events have no result after {LATE_S:.0f} s")
            self.read(0.1)

    def forget(self) -> None:
        """Start counting again."""
        self.now = [Seen() for _ in self.now]

    def _send_all(self, arrivals: Sequence[Arrival]) -> None:
        start = time.perf_counter()
        for arrival in arrivals:
            ahead_s = start + arrival.at_s - time.perf_counter()
            if ahead_s > 0:
                time.sleep(ahead_s)
            self.send(arrival.way, arrival.event)


def in_turn(events: Iterator[Event], ways: int, per_way: int, rate_per_s: float, seed: int = 1) -> list[Arrival]:
    """Each way gets `rate_per_s`, one after the other, each event a little early or late: A B A B …"""
    rng = random.Random(seed)
    step_s = 1 / (rate_per_s * ways)
    return [
        Arrival((number + rng.uniform(0, 0.8)) * step_s, number % ways, next(events))
        for number in range(per_way * ways)
    ]


def at_random(events: Iterator[Event], rate_per_s: float, seconds: float, seed: int = 1) -> list[Arrival]:
    """An open loop: a Poisson process."""
    rng = random.Random(seed)
    arrivals: list[Arrival] = []
    at_s = rng.expovariate(rate_per_s)
    while at_s < seconds:
        arrivals.append(Arrival(at_s, 0, next(events)))
        at_s += rng.expovariate(rate_per_s)
    return arrivals
