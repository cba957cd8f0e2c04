"""Runs `streamer run` as its users do, and watches what comes out as a subscriber does.

`Lab` owns a test's topics, configuration and processes; `Reader` is a read_committed subscriber on a thread of its own;
`check` compares what it saw with what was written, and names every anomaly.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streamer.inference.spec import WORKER_NAME

ROOT = Path(__file__).parents[2]
PIPELINE = "p"
OBEDIENT = "python:tests.python_models:Obedient"
FAST: dict[str, Any] = {"retry.backoff.ms": 5, "retry.backoff.max.ms": 50}
QUIET = logging.getLogger("tests.kafka")  # what the test's own clients say of an outage

Headers = list[tuple[str, bytes]]


class Place(NamedTuple):
    """Where an input record lies."""

    partition: int
    offset: int


class Given(NamedTuple):
    """An input record as it was written."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result (`code` is "") or a dead letter, as a subscriber read it, at a time of `time.monotonic`."""

    code: str
    place: Place
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    body: dict[str, Any]
    at: float = 0.0


# A new broker's first group waits for its coordinator.
COORDINATOR_LOADS = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
)


def build_wheel(folder: Path) -> Path:
    """The wheel of this tree, in a folder that has none."""
    build = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, timeout=180)
    (wheel,) = folder.glob("*.whl")
    return wheel


def wait_for(condition: Callable[..., Any], what: str, timeout_s: float = 180, run: Run | None = None) -> Any:
    """Wait until the condition is true; returns its value. Fails at once when `run` has ended.
    The condition takes no arguments but such as hold a loop's variables by their defaults."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert run is None or not run.ended, f"the run ended with {run.process.returncode}:\n{run.log[-3000:]}"
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)
    return value


def alive(pid: int) -> bool:
    """Whether this process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in task.read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """The processes that this one started, and theirs."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


class Run:
    """A `streamer run` under way, with its log in a file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log_path = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        self.workers: set[int] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def worker_pids(self) -> list[int]:
        """The workers that live now; all that were ever seen here are remembered."""
        found = [pid for pid in descendants(self.pid) if alive(pid) and _is_worker(pid)]
        self.workers.update(found)
        return found

    def assigned(self, count: int = 1) -> bool:
        """Whether partitions were assigned to it so many times."""
        lines = [json.loads(line) for line in self.log.splitlines() if '"message":"assigned"' in line]
        return sum(bool(line["partitions"]) for line in lines) >= count

    def wait(self, timeout_s: float = 60) -> int:
        """The exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {timeout_s:g} s:\n{self.log[-3000:]}") from None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """To it and all its children, as a terminal does."""
        os.killpg(self.pid, number)

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.worker_pids()
        self.process.kill()
        self.process.wait()

    def rss_mb(self) -> float:
        """Resident memory of the driver."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS: the process has ended")


def _is_worker(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == WORKER_NAME
    return False


class Reader:
    """A subscriber: reads the committed outcomes of a pipeline as they come, in partition order."""

    def __init__(self, bootstrap_servers: str, pipeline: str, output: str, dead_letter: str, partitions: int) -> None:
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None
        self._pipeline = pipeline
        self._dead_letter = dead_letter
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"reader-{uuid.uuid4()}",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                "fetch.message.max.bytes": 8_000_000,
                **FAST,
            },
            logger=QUIET,
        )
        self._consumer.assign(
            [TopicPartition(topic, number, 0) for topic in (output, dead_letter) for number in range(partitions)]
        )
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="reader")
        self._thread.start()

    @property
    def count(self) -> int:
        """How many outcomes were read."""
        if self.error is not None:
            raise AssertionError("the reader failed") from self.error
        return len(self.outcomes)

    @property
    def places(self) -> int:
        """How many different inputs have outcomes."""
        return len({outcome.place for outcome in self.outcomes[: self.count]})

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        try:
            while not self._closing:
                for message in self._consumer.consume(2000, 0.02):
                    if message.error() is not None:
                        raise AssertionError(f"{message.topic()}: {message.error()}")
                    self.outcomes.append(self._outcome(message))
        except BaseException as error:
            self.error = error

    def _outcome(self, message: Any) -> Outcome:
        headers = dict(message.headers())
        if message.topic() == self._dead_letter:
            place = Place(
                int(headers["__connect.errors.partition"]),
                int(headers["__connect.errors.offset"]),
            )
            code, body = headers["streamer.error.code"].decode(), {}
        else:
            code, body = "", json.loads(message.value())
            place = Place(body["source"]["partition"], body["source"]["offset"])
            ce_id = f"{self._pipeline}/{body['source']['topic']}/{place.partition}/{place.offset}"
            assert headers["ce_id"].decode() == ce_id, "ce_id and source say different things"
        assert message.partition() == place.partition, "an outcome on another partition than its input"
        return Outcome(code, place, message.key(), message.value(), headers, body, time.monotonic())


@dataclass(slots=True)
class Anomalies:
    """What is wrong with a stream of outcomes; each list holds a few places."""

    lost: list[Place] = field(default_factory=list)
    duplicate: list[Place] = field(default_factory=list)
    reordered: list[Place] = field(default_factory=list)
    foreign: list[Place] = field(default_factory=list)
    wrong: list[tuple[Place, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.lost, self.duplicate, self.reordered, self.foreign, self.wrong))

    def __str__(self) -> str:
        names = ("lost", "duplicate", "reordered", "foreign", "wrong")
        return "; ".join(
            f"{name}: {len(found)}, first {sorted(found)[:5]}" for name in names if (found := getattr(self, name))
        )


def check(
    given: dict[Place, Given],
    outcomes: Sequence[Outcome],
    expected: Callable[[Place], str],
    *,
    repeats: bool = False,
) -> Anomalies:
    """Compare outcomes, in the order they were read, with the inputs.

    `expected` gives each input's code, "" for a result, "skipped" for none. With `repeats` an input may have more than
    one outcome, all alike. Order is judged by first occurrences, within results and within dead letters of a partition.
    """
    anomalies = Anomalies()
    first: dict[Place, Outcome] = {}
    last: dict[tuple[int, bool], int] = {}
    for outcome in outcomes:
        place = outcome.place
        record = given.get(place)
        if record is None:
            anomalies.foreign.append(place)
            continue
        before = first.setdefault(place, outcome)
        if before is not outcome:
            if not repeats:
                anomalies.duplicate.append(place)
            elif before.code != outcome.code:
                anomalies.wrong.append((place, f"{before.code or 'result'}, then {outcome.code or 'result'}"))
            continue
        line = (place.partition, outcome.code == "")
        if place.offset < last.get(line, -1):
            anomalies.reordered.append(place)
        last[line] = max(place.offset, last.get(line, -1))
        wanted = expected(place)
        if outcome.code != wanted:
            anomalies.wrong.append((place, f"{outcome.code or 'result'} instead of {wanted or 'result'}"))
        elif outcome.key != record.key:
            anomalies.wrong.append((place, "another key"))
        elif outcome.code and (outcome.value != record.value or outcome.headers.items() < dict(record.headers).items()):
            anomalies.wrong.append((place, "a dead letter that is not the record"))
        elif not outcome.code and "n" in outcome.body["output"]:
            number = json.loads(record.value or b"")["text"].split()[0]
            if outcome.body["output"]["n"] != int(number):
                anomalies.wrong.append((place, "another record's answer"))
    anomalies.lost = [place for place in given if place not in first and expected(place) != "skipped"]
    return anomalies


class Lab:
    """One test's topics, configuration, processes and readers."""

    def __init__(self, bootstrap_servers: str, folder: Path, pipeline_name: str = PIPELINE) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.pipeline_name = pipeline_name
        self.folder = folder
        self.name = f"t{uuid.uuid4().hex[:10]}"
        self.input, self.output, self.dead_letter = f"{self.name}.in", f"{self.name}.out", f"{self.name}.out.dlq"
        self.reports, self.group = f"{self.name}.reports", f"{self.name}.group"
        self.partitions = 0
        self.given: dict[Place, Given] = {}
        self.runs: list[Run] = []
        self.properties: dict[str, Any] = {}  # kafka.properties of the runs
        self.telemetry: dict[str, Any] = {"spans": "", "http": "", "reports": self.reports, "log_format": "json"}
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers}, logger=QUIET)
        self._readers: list[Reader] = []
        self._lookers_now: list[Consumer] = []
        self._next: Counter[int] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.runs:
            if not run.ended:
                run.kill()
        for reader in self._readers:
            reader.close()
        for looker in self._lookers_now:
            looker.close()
        workers = {pid for run in self.runs for pid in run.workers}
        wait_for(lambda: not any(map(alive, workers)), "the workers' ends", 10)

    def create(self, topics: dict[str, dict[str, str]], partitions: int) -> None:
        """Create topics with these settings, and wait until the brokers that are asked know of them."""
        new = [NewTopic(name, partitions, 1, config=config) for name, config in topics.items()]
        for future in self.admin.create_topics(new).values():
            try:
                future.result(30)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        for name in topics:
            wait_for(lambda name=name: self._is_known(name), f"topic {name}")

    def _is_known(self, topic: str) -> bool:
        described = self.admin.describe_topics(TopicCollection([topic]))[topic]
        return described.exception(30) is None

    def topics(self, partitions: int = 4, **config: dict[str, str]) -> None:
        """Create the pipeline's topics; `config` by role: input, output, dead_letter."""
        self.partitions = partitions
        by_role = {role: getattr(self, role) for role in ("input", "output", "dead_letter")}
        config = {"dead_letter": {"max.message.bytes": "1112588"}, **config}
        self.create({name: config.get(role, {}) for role, name in by_role.items()}, partitions)
        self.create({self.reports: {}, "streamer.dlq.state": {"cleanup.policy": "compact"}}, 1)

    def config(self, model: str = OBEDIENT, *, cache: dict[str, Any] | None = None, **fields: Any) -> Path:
        """Write the configuration of the pipeline `p`; returns its path."""
        return self.write_config({self.pipeline_name: self.pipeline(model, **fields)}, cache)

    def pipeline(self, model: str = OBEDIENT, **fields: Any) -> dict[str, Any]:
        """The configuration of one pipeline on this lab's topics."""
        return {
            "task": "text-classification",
            "model": model,
            "input": [self.input],
            "output": self.output,
            "dead_letter": self.dead_letter,
            "group": self.group,
            "workers": 1,
            "threads": 1,
            **fields,
        }

    def write_config(self, pipelines: dict[str, dict[str, Any]], cache: dict[str, Any] | None = None) -> Path:
        """Write a configuration of these pipelines; returns its path."""
        sections = {
            "kafka": {"bootstrap_servers": self.bootstrap_servers, "properties": self.properties},
            "cache": cache or {},
            "telemetry": self.telemetry,
            **{f"pipelines.{name}": fields for name, fields in pipelines.items()},
        }
        path = self.folder / "streamer.toml"
        path.write_text("\n\n".join(f"[{name}]\n{_toml(fields)}" for name, fields in sections.items()))
        return path

    def start(self, config: Path, *arguments: str) -> Run:
        """Start `streamer run` with this configuration."""
        command = [sys.executable, "-m", "streamer", "run", "--config", str(config), *arguments]
        run = Run(command, self.folder / f"run-{len(self.runs)}.log")
        self.runs.append(run)
        return run

    def reader(self) -> Reader:
        """Start to read the outcomes."""
        reader = Reader(self.bootstrap_servers, self.pipeline_name, self.output, self.dead_letter, self.partitions)
        self._readers.append(reader)
        return reader

    def produce(self, records: Iterable[Given], *, timestamp_ms: int = 0) -> list[Place]:
        """Write records over the partitions in turn; returns where each lies."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
                "message.max.bytes": 4_000_000,
                **FAST,
            },
            logger=QUIET,
        )
        failed: list[Any] = []
        places = []
        for number, record in enumerate(records):
            place = Place(number % self.partitions, self._next[number % self.partitions])
            producer.produce(
                self.input,
                record.value,
                record.key,
                place.partition,
                on_delivery=lambda error, _: failed.append(error) if error else None,
                headers=record.headers,  # type: ignore[arg-type]
                timestamp=timestamp_ms,
            )
            self._next[place.partition] += 1
            self.given[place] = record
            places.append(place)
            if number % 1000 == 0:
                producer.poll(0)
        assert producer.flush(60) == 0
        assert not failed
        producer.close()
        return places

    def committed(self) -> int:
        """The sum of the group's committed offsets."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": self.group})

        def found_now() -> list[TopicPartition] | None:
            try:
                return consumer.committed([TopicPartition(self.input, n) for n in range(self.partitions)], timeout=10)
            except KafkaException as error:
                if error.args[0].code() in COORDINATOR_LOADS:
                    return None
                raise

        try:
            found = wait_for(found_now, "the coordinator of the group")
        finally:
            consumer.close()
        return sum(max(partition.offset, 0) for partition in found)

    def open_transactions(self) -> int:
        """How many partitions of the outcomes end in records of a transaction that is open now."""
        places = [(topic, n) for topic in (self.output, self.dead_letter) for n in range(self.partitions)]
        committed, written = (
            [consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)[1] for place in places]
            for consumer in self._lookers()
        )
        return sum(end < last for end, last in zip(committed, written, strict=True))

    def freeze_in_transaction(self, run: Run, stays_s: float = 0.0) -> None:
        """Stop a run where a transaction of its own is open, and stays so: the second look, `stays_s` later, finds no
        commit that was already on its way at the first. More events are written meanwhile: it must not run out of
        work."""

        def met() -> bool:
            run.signal(signal.SIGSTOP)
            if self.open_transactions():
                time.sleep(stays_s)
                if self.open_transactions():
                    return True
            run.signal(signal.SIGCONT)
            return False

        wait_for(run.assigned, "its partitions", run=run)
        with self.flow():
            wait_for(met, "an open transaction", run=run)

    @contextmanager
    def flow(self) -> Iterator[None]:
        """Two thousand more events a second meanwhile."""
        enough = threading.Event()

        def events() -> Iterator[Given]:
            while not enough.wait(0.05):
                yield from map(event, range(len(self.given), len(self.given) + 100))

        writing = threading.Thread(target=self.produce, args=(events(),))
        writing.start()
        try:
            yield
        finally:
            enough.set()
            writing.join()

    def _lookers(self) -> list[Consumer]:
        """What sees where the committed records end, and what sees where all do; kept, since a look must be short."""
        if not self._lookers_now:
            self._lookers_now = [
                Consumer(
                    {
                        "bootstrap.servers": self.bootstrap_servers,
                        "group.id": f"ends-{self.name}",
                        "isolation.level": isolation,
                    },
                    logger=QUIET,
                )
                for isolation in ("read_committed", "read_uncommitted")
            ]
        return self._lookers_now

    def read_reports(self) -> list[dict[str, Any]]:
        """All reports so far."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": f"reports-{self.name}",
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        consumer.assign([TopicPartition(self.reports, 0, 0)])
        reports = []
        while (message := consumer.poll(10)) is not None and message.error() is None:
            reports.append(json.loads(message.value() or b""))
        consumer.close()
        return reports


def event(number: int, words: str = "", **fields: Any) -> Given:
    """An event for the model `Obedient`."""
    text = f"{number} {words}".strip()
    return Given(b"k%d" % number, json.dumps({"text": text, **fields}).encode(), [])


def _toml(fields: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {_toml_value(value)}" for name, value in fields.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml_value(item)}" for name, item in value.items()) + "}"
    return json.dumps(value)
