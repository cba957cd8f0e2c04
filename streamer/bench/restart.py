"""Restart: `kill -9` while events flow, start again at once in the same slot, wait for the first new result."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamer.bench.bulk import MINILM, MINILM_TASK, BulkWorker
from streamer.bench.harness.bench import Bench
from streamer.bench.harness.figures import Figure, Section, Target
from streamer.bench.harness.program import BenchError
from streamer.bench.harness.traffic import Traffic
from streamer.bench.harness.workload import Event, Workload

EVENTS = 100_000
PAUSE_S = 0.02
FLOW_S = 2.0
FIRST_RESULT_S = 90.0
BEYOND_LOAD = Target(at_most=1.0)
MODELS: Mapping[str, tuple[str, str]] = {
    "builtin:null": ("builtin:null", "null"),
    "MiniLM": (MINILM, MINILM_TASK),
}


def restarts(bench: Bench, models: list[str], rounds: int, progress: Callable[[str], None]) -> Section:
    """Seconds from starting again to the first new result, beside the time that a worker takes to load the model."""
    figures: list[Figure] = []
    for name in models:
        model, task = MODELS[name]
        loads: list[float] = []
        firsts: list[float] = []
        for number in range(rounds):
            progress(f"restart: {name}, round {number + 1} of {rounds}")
            with BulkWorker(model, task) as worker:
                loads.append(worker.ready_s)
            firsts.append(_restart(bench, {"task": task, "model": model}))
        beyond = [first - load for first, load in zip(firsts, loads, strict=True)]
        columns = {"first result s": statistics.median(firsts), "model load s": statistics.median(loads)}
        figures.append(Figure(name, statistics.median(beyond), "s beyond load", BEYOND_LOAD, beyond, columns))
    return Section(
        "Restart after kill -9, same slot",
        figures,
        (
            "first result: from starting the command to a new result in a read_committed reader's hands",
            "model load: from starting a worker process to its word that it is ready, measured beside each round",
            "every event of every round had exactly one result",
        ),
    )


def _restart(bench: Bench, pipeline: Mapping[str, Any]) -> float:
    setup = bench.setup(pipeline=pipeline)
    events = Workload(EVENTS, seed=4).events()
    with Traffic(bench, [setup]) as traffic:
        with bench.start(setup) as program:
            traffic.warm_up(events)
            _flow(traffic, events, FLOW_S)
            program.kill()
        _flow(traffic, events, 0.0)  # what was committed before the kill is not new
        before = len(traffic.now[0].seen)
        started = time.monotonic()
        with bench.start(setup):
            while len(traffic.now[0].seen) == before:
                if time.monotonic() - started > FIRST_RESULT_S:
                    raise BenchError(f"no result within {FIRST_RESULT_S:.0f} s of the restart")
                _flow(traffic, events, 0.0)
            seconds = time.monotonic() - started
            traffic.drain()
        seen = traffic.now[0]
        if seen.repeats:
            raise BenchError(f"{seen.repeats} events have two results")
    return seconds


def _flow(traffic: Traffic, events: Iterator[Event], seconds: float) -> None:
    """An event each 20 ms, at least one, reading results meanwhile."""
    end = time.monotonic() + seconds
    while True:
        traffic.send(0, next(events))
        traffic.read(PAUSE_S)
        if time.monotonic() >= end:
            return
