"""How fast the health app joins feedback with results while a pipeline writes more of them, and how much memory that
takes. The results are generated, four partitions of them, with their reports; the app, Kafka and what writes are real.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final

import msgspec

from streamer.bench.harness.bench import PARTITIONS, PIPELINE, Bench, Setup
from streamer.bench.harness.figures import Figure, Section, Target, percentile
from streamer.bench.harness.program import BenchError, Program
from streamer.core.report import Histogram, Model, Report
from streamer.kafka.writer import Writer
from streamer.local.ports import free_ports

LABELS_PER_S: Final = Target(at_least=500.0)
MOST_MB: Final = Target(at_most=300.0)
START_S: Final = 60.0
FINISH_S: Final = 60.0
LOOK_S: Final = 0.1
STEP_S: Final = 0.2
"""So much of the results is written at once, like a settle."""
_NAMES: Final = ("anger", "fear", "joy", "sadness")


class Results(threading.Thread):
    """Writes results and reports on them; `upto` events of each partition have theirs."""

    def __init__(self, bench: Bench, setup: Setup, per_s: float) -> None:
        super().__init__(daemon=True)
        self.upto = 0
        self._writer = Writer(bench.kafka)
        self._setup, self._per_s = setup, per_s
        self._ending = threading.Event()

    def write(self, records: int) -> None:
        """So many results of each partition, and their report."""
        first, now_ms = self.upto, time.time_ns() // 1_000_000
        output, topic = self._setup.output, self._setup.input
        for partition in range(PARTITIONS):
            for offset in range(first, first + records):
                value = _result(topic, partition, offset, now_ms)
                self._writer.write(output, value, partition=partition, timestamp_ms=now_ms)
        ranges = [(topic, partition, first, first + records - 1) for partition in range(PARTITIONS)]
        report = Report(
            version="streamer.report.v2",
            pipeline=PIPELINE,
            task="text-classification",
            model=Model("bench", "r1"),
            time_ms=now_ms,
            ranges=ranges,
            results=records * PARTITIONS,
            dead_letters={},
            skipped={},
            cached=0,
            truncated=0,
            tokens=0,
            latency_ms=Histogram([], 0, 0),
            text_chars=Histogram([], 0, 0),
        )
        self._writer.write(self._setup.config.telemetry.reports, msgspec.json.encode(report))
        self._writer.flush()
        self.upto += records

    def run(self) -> None:
        """Write `per_s` results a second until `end`."""
        due = time.monotonic()
        while not self._ending.is_set():
            self.write(max(int(self._per_s * STEP_S / PARTITIONS), 1))
            due += STEP_S
            self._ending.wait(due - time.monotonic())

    def end(self) -> None:
        """Write no more."""
        self._ending.set()
        self.join()


class Feedback:
    """Writes labels on random results, each on another one, and knows when each was written."""

    def __init__(self, bench: Bench, setup: Setup, results: Results) -> None:
        self.written: list[float] = []
        self.right = 0
        self._writer = Writer(bench.kafka)
        self._setup, self._results = setup, results
        self._random = random.Random(1)
        self._taken: set[tuple[int, int]] = set()

    def write(self, labels: int) -> None:
        """So many labels."""
        for _ in range(labels):
            place = self._random.randrange(PARTITIONS), self._random.randrange(self._results.upto)
            while place in self._taken:
                place = self._random.randrange(PARTITIONS), self._random.randrange(self._results.upto)
            self._taken.add(place)
            right = self._random.random() < 0.8
            self.right += right
            said = {"origin": [self._setup.input, *place], "label": _NAMES[(place[1] + (not right)) % len(_NAMES)]}
            self._writer.write(self._setup.config.health.feedback, json.dumps(said).encode())
            self.written.append(time.monotonic())
        self._writer.flush()


def feedback_speed(
    bench: Bench, results: int, per_s: float, at_once: int, rate: float, seconds: float, progress: Callable[[str], None]
) -> Section:
    """`at_once` labels in one go, then `rate` a second, over `results` results and while `per_s` a second are added."""
    (port,) = free_ports(1)
    own = f"bench.health.{random.SystemRandom().getrandbits(32):08x}"
    names = {"topic": f"{own}.words", "feedback": f"{own}.feedback", "http": f"127.0.0.1:{port}"}
    setup = bench.setup(telemetry={"reports": f"{own}.reports", "http": ""}, health=names)
    writing = Results(bench, setup, per_s)
    progress(f"writing {results:,} results")
    writing.write(max(results // PARTITIONS, at_once))
    feedback = Feedback(bench, setup, writing)
    command = [sys.executable, "-m", "streamer", "health", "run", f"--config={setup.path}"]
    topics = [setup.input, setup.output, setup.config.telemetry.reports, names["topic"], names["feedback"]]
    with Program(command, setup.path.with_suffix(".health.log")) as app:
        wait_for(app, START_S, lambda: page(port, "/healthz") is not None)
        before, started = writing.upto, time.monotonic()
        writing.start()
        try:
            progress(f"{at_once:,} labels at once")
            began = time.monotonic()
            feedback.write(at_once)
            wait_for(
                app,
                FINISH_S + at_once / 100,
                lambda: _matched(port) >= at_once,
                lambda: f"; feedback: {_outcomes(port)}",
            )
            fastest = at_once / (time.monotonic() - began)
            progress(f"{rate:g} labels a second for {seconds:g} s")
            delays_s = _steady(app, port, feedback, rate, seconds)
        finally:
            writing.end()
            reached = (writing.upto - before) * PARTITIONS / (time.monotonic() - started)
        (total,) = page(port, "/quality")["totals"]
        app.terminate(FINISH_S)
    bench.delete(*topics, f"{names['feedback']}.dlq")
    labels = len(feedback.written)
    if total["labels"] != labels or abs(total["metrics"]["accuracy"] - feedback.right / labels) > 1e-9:
        raise BenchError(f"{total['labels']} of {labels} labels count, with accuracy {total['metrics']['accuracy']}")
    return Section(
        "Feedback joined by `streamer health run`",
        [
            Figure("labels at once", fastest, "labels/s", LABELS_PER_S, columns={"labels": at_once}),
            Figure(
                "delay, p95",
                percentile(delays_s, 0.95) * 1000,
                "ms",
                columns={"labels": len(delays_s), "p50": percentile(delays_s, 0.5) * 1000},
            ),
            Figure("results written meanwhile", reached, "results/s", columns={"asked for": per_s}),
            Figure("memory, most", app.peak_mb, "MB", MOST_MB),
            Figure("CPU time of the app", app.cpu_s, "s", columns={"labels": labels}),
        ],
        (
            f"labels are on random results among {results:,} and those of {per_s:,.0f} more a second",
            f"the delay is measured at {rate:g} labels a second, to {LOOK_S * 1000:.0f} ms",
            f"at the end, the accuracy of all {labels:,} labels was that of what was written",
        ),
    )


def _steady(app: Program, port: int, feedback: Feedback, rate: float, seconds: float) -> list[float]:
    """Write labels at a rate; how long each took from when it was written until it counted, as far as that is seen."""
    before, began = len(feedback.written), time.monotonic()
    wanted = max(int(rate * seconds), 1)
    seen: list[tuple[int, float]] = []
    while (counted := _matched(port)) < before + wanted:
        seen.append((counted, time.monotonic()))
        due = min(int((time.monotonic() - began) * rate), wanted) - (len(feedback.written) - before)
        feedback.write(max(due, 0))
        if not app.runs or time.monotonic() - began > seconds + FINISH_S:
            raise BenchError(f"{counted - before} of {wanted} labels counted in time:\n{app.last_lines()}")
        time.sleep(LOOK_S)
    seen.append((counted, time.monotonic()))
    counts = [count for count, _ in seen]
    return [
        max(seen[bisect_left(counts, number + 1)][1] - feedback.written[number], 0.0)
        for number in range(before, before + wanted)
    ]


def _matched(port: int) -> int:
    return _outcomes(port).get("matched", 0)


def _outcomes(port: int) -> dict[str, int]:
    answer = page(port, "/feedback") or {"pipelines": {}}
    found: dict[str, int] = answer["pipelines"].get(PIPELINE, {}).get("outcomes", {})
    return found


def wait_for(
    app: Program, timeout_s: float, until: Callable[[], bool], where: Callable[[], str] = str, every_s: float = LOOK_S
) -> None:
    """Wait for something that the app does. Raises BenchError when it ends or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not until():
        if not app.runs or time.monotonic() > deadline:
            raise BenchError(f"the health app was not done within {timeout_s:g} s{where()}:\n{app.last_lines()}")
        time.sleep(every_s)


def page(port: int, path: str) -> Any:
    """A page of the app; None while it has none, or is not ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:  # an OSError, too, that holds its socket
        error.close()
        return None
    except OSError:
        return None


def _result(topic: str, partition: int, offset: int, time_ms: int) -> bytes:
    return (
        f'{{"id":"{topic}/{partition}/{offset}","pipeline":"{PIPELINE}","task":"text-classification",'
        f'"model":{{"name":"bench","revision":"r1"}},'
        f'"output":{{"label":"{_NAMES[offset % len(_NAMES)]}","score":0.{offset % 997:03d}}},'
        f'"cached":false,"truncated":false,"source":{{"topic":"{topic}","partition":{partition},"offset":{offset},'
        f'"timestamp_ms":{time_ms}}}}}'
    ).encode()
