"""Where a benchmark runs: Kafka, Redis, topics, configurations, and the programs between them."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from streamer.bench.harness.program import BenchError, Program
from streamer.bench.harness.workload import Event
from streamer.config.load import CacheConfig, Config, KafkaConfig, load
from streamer.errors import DependencyError
from streamer.kafka.clients import consumer_properties, producer_properties
from streamer.kafka.reader import Reader
from streamer.kafka.topics import connect, create
from streamer.kafka.writer import Writer
from streamer.local import Stack

PARTITIONS = 4
PIPELINE = "bench"
MEMORY_MB = CacheConfig().memory_mb
CACHE_TTL_S = 120
FINISH_S = 300.0
LEADERS_S = 10.0
_LOG_APPEND_TIME = 2
SUSPENDED = "look-ups suspended"  # in the warning of streamer/cache/gate.py


@dataclass(frozen=True, slots=True)
class Setup:
    """A pipeline's configuration, written to `path`; its topics exist."""

    path: Path
    config: Config

    @property
    def input(self) -> str:
        """The input topic."""
        return self.config.pipelines[PIPELINE].input[0]

    @property
    def output(self) -> str:
        """The output topic."""
        return self.config.pipelines[PIPELINE].output


@dataclass(frozen=True, slots=True)
class Measured:
    """One run, as a read_committed reader finds it.

    The rate is that of the results behind the first ones, over the time from the first to the last result. `clock` says
    whose timestamps these are: the broker's, or the program's when it handed the result to its client. `suspended` says
    that the program went without Redis for a while, which did not answer in time: a null model is faster so.
    """

    records: int
    records_per_s: float
    cpu_us_per_record: float
    clock: str
    suspended: bool = False


def rates(runs: Iterable[Measured]) -> list[float]:
    """Records a second of each."""
    return [run.records_per_s for run in runs]


def rate_of(times_ms: Mapping[int, int], start: float = 0, end: float = 1) -> float:
    """Results a second of those between two shares of all in the order of their times, given how many each millisecond
    has: what came within the first of these is not counted."""
    ordered = sorted(times_ms)
    upto = list(accumulate(times_ms[at] for at in ordered))
    first, last = bisect_left(upto, start * upto[-1]), bisect_left(upto, end * upto[-1])
    return (upto[last] - upto[first]) * 1000 / max(ordered[last] - ordered[first], 1)


class Bench:
    """Topics and programs on one Kafka. Get one from `opened`."""

    def __init__(self, bootstrap_servers: str, redis_url: str, directory: Path) -> None:
        self.kafka = KafkaConfig(bootstrap_servers=bootstrap_servers)
        self.redis_url = redis_url
        self.directory = directory
        self._admin = connect(self.kafka)
        self._number = 0
        self._id = uuid.uuid4().hex[:6]

    def fill(self, topic: str, events: Iterable[Event]) -> int:
        """Write events to the partitions in turn; returns how many. The topic must exist."""
        count = 0
        with Writer(self.kafka) as writer:
            for count, event in enumerate(events, 1):
                writer.write(
                    topic, event.value, key=event.key, headers=event.headers, partition=(count - 1) % PARTITIONS
                )
            deliveries = writer.flush()
        if deliveries.delivered != count:
            raise BenchError(f"{topic}: {deliveries.delivered} of {count} events were delivered")
        return count

    def setup(
        self,
        *,
        input_topic: str = "",
        cache: bool = False,
        memory_mb: int = MEMORY_MB,
        pipeline: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        telemetry: Mapping[str, Any] | None = None,
        health: Mapping[str, Any] | None = None,
    ) -> Setup:
        """A pipeline with group, output and, unless one is given, input of its own.

        `builtin:null`, exactly once, without cache when nothing else is said. The task has a new name for each set-up,
        so that no cache key of an earlier run is found.
        """
        self._number += 1
        own = f"bench.{self._id}.{self._number}"
        fields = {
            "task": own,
            "model": "builtin:null",
            "input": [input_topic or f"{own}.in"],
            "output": f"{own}.out",
            "group": own,
            **(pipeline or {}),
        }
        url, memory_mb = (self.redis_url, memory_mb) if cache else ("", 0)
        text = _toml(
            {
                "kafka": {"bootstrap_servers": self.kafka.bootstrap_servers},
                "cache": {"url": url, "memory_mb": memory_mb, "ttl_s": CACHE_TTL_S},
                "telemetry": {"http": "127.0.0.1:0", "log_level": "warning", **(telemetry or {})},
                "health": health or {},
                f"pipelines.{PIPELINE}": fields,
                f"pipelines.{PIPELINE}.options": options or {},
            }
        )
        path = self.directory / f"{own}.toml"
        path.write_text(text)
        config = load(path)
        create(self._admin, config, input_partitions=PARTITIONS)
        setup = Setup(path, config)
        self._await_leaders(setup)
        return setup

    def start(self, setup: Setup, *arguments: str) -> Program:
        """The real command."""
        command = [sys.executable, "-m", "streamer", "run", f"--config={setup.path}", *arguments]
        return Program(command, setup.path.with_suffix(".log"))

    def start_raw(self, setup: Setup, *, micro_batch_records: int, records: int = 0, wait: str = "full") -> Program:
        """The shortest transactional loop, on the same topics with the same client properties."""
        pipeline = setup.config.pipelines[PIPELINE]
        settings = {
            "consumer": {**consumer_properties(self.kafka, pipeline, "raw"), "auto.offset.reset": "earliest"},
            "producer": producer_properties(self.kafka, pipeline, "raw"),
            "source": setup.input,
            "target": setup.output,
            "micro_batch_records": micro_batch_records,
            "records": records,
            "wait": wait,
        }
        return self.start_loop(setup, "raw_loop", settings)

    def start_loop(
        self, setup: Setup, loop: str, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> Program:
        """One of the loops in `baselines`, with these settings."""
        path = setup.path.with_suffix(f".{loop}.json")
        path.write_text(json.dumps(settings))
        command = [sys.executable, "-m", f"streamer.bench.baselines.{loop}", str(path)]
        return Program(command, path.with_suffix(".log"), environment)

    def measure(self, setup: Setup, program: Program, records: int, part: tuple[float, float] = (0, 1)) -> Measured:
        """Let a program finish and read what it wrote; its topic is deleted. Raises BenchError for a wrong count. The
        rate is that of a `part` of the results, by their times, from a share of all to another one."""
        with program:
            program.finish(FINISH_S)
        times_ms: Counter[int] = Counter()
        kind = 0
        with Reader(self.kafka, [setup.output]) as reader:
            for record in reader.read_until_end():
                kind, timestamp_ms = record.timestamp()
                times_ms[timestamp_ms] += 1
        self.delete(setup.output)
        count = times_ms.total()
        if count != records:
            raise BenchError(f"{count} results for {records} events; {program.log}:\n{program.last_lines()}")
        return Measured(
            records=count,
            records_per_s=rate_of(times_ms, *part),
            cpu_us_per_record=program.cpu_s * 1e6 / count,
            clock="broker" if kind == _LOG_APPEND_TIME else "program",
            suspended=SUSPENDED in program.log.read_text(errors="replace"),
        )

    def _await_leaders(self, setup: Setup) -> None:
        """A new topic can be described before its partitions have leaders."""
        deadline = time.monotonic() + LEADERS_S
        while True:
            try:
                with Reader(self.kafka, [setup.input, setup.output]):
                    return
            except DependencyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def delete(self, *topics: str) -> None:
        """Delete topics; the disk is the broker's to free."""
        for future in self._admin.delete_topics(list(topics)).values():
            future.result()


@contextmanager
def opened(bootstrap_servers: str = "", redis_url: str = "", *, redis: bool = False) -> Iterator[Bench]:
    """A bench on the given Kafka, or on a stack of its own, whose topics carry the broker's timestamps.

    `redis` says that one is needed; it is started too unless an address is given.
    """
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as directory:
        if bootstrap_servers and (redis_url or not redis):
            yield Bench(bootstrap_servers, redis_url, Path(directory))
            return
        stack = Stack.start(
            kafka=not bootstrap_servers,
            redis=redis and not redis_url,
            kafka_config={"log.message.timestamp.type": "LogAppendTime"},
        )
        with stack:
            servers = bootstrap_servers or stack.bootstrap_servers
            yield Bench(servers, redis_url or stack.redis_url or "", Path(directory))


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values; JSON's texts, numbers, booleans and lists are TOML's too."""
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
