"""Poison: what a share of texts that make the model raise costs the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from streamer.bench.harness.bench import PIPELINE, Bench, Measured, rates
from streamer.bench.harness.figures import Figure, Section, Target, compared, interleaved
from streamer.bench.harness.workload import POISON_MARK, Workload
from streamer.kafka.reader import Reader

SHARE = 0.01
NONE = Target(at_most=0.0)
PIPELINE_FIELDS = {"task": "bench", "model": "python:streamer.bench.models:Marked"}


def poison_cost(bench: Bench, records: int, rounds: int, progress: Callable[[str], None]) -> Section:
    """Results a second with 1 % poison and with none, and how many innocent records have no result."""
    poisoned, clean = Workload(records, poison=SHARE), Workload(records)
    marked = sum(text.startswith(POISON_MARK) for text in poisoned.texts())
    backlogs = {}
    for name, workload in (("with", poisoned), ("without", clean)):
        progress(f"poison: writing {records:,} events {name} poison")
        backlogs[name] = bench.setup().input
        bench.fill(backlogs[name], workload.events())
    harmed: list[int] = []
    runs = {
        "poison: 1 %": partial(_poisoned, bench, backlogs["with"], records, marked, harmed),
        "poison: none": partial(_clean, bench, backlogs["without"], records),
    }
    ours, theirs = interleaved(rounds, runs, progress).values()
    names = "records/s with", "records/s without"
    return Section(
        f"{SHARE:.0%} poison among {records:,} events",
        [
            compared("throughput", rates(ours), rates(theirs), names, unit="× without poison"),
            Figure("innocent records harmed", max(harmed), "records", NONE),
        ],
        (f"a model in Python that raises for the whole batch; {marked:,} records are poison; {rounds} rounds",),
    )


def _clean(bench: Bench, backlog: str, records: int) -> Measured:
    setup = bench.setup(input_topic=backlog, pipeline=PIPELINE_FIELDS)
    return bench.measure(setup, bench.start(setup, "--until-end"), records)


def _poisoned(bench: Bench, backlog: str, records: int, marked: int, harmed: list[int]) -> Measured:
    """A dead letter that is not marked is an innocent record harmed; `measure` counts the results."""
    setup = bench.setup(input_topic=backlog, pipeline=PIPELINE_FIELDS)
    run = bench.measure(setup, bench.start(setup, "--until-end"), records - marked)
    mark = POISON_MARK.encode()
    with Reader(bench.kafka, [setup.config.pipelines[PIPELINE].dead_letter]) as reader:
        harmed.append(sum(mark not in (record.value() or b"") for record in reader.read_until_end()))
    return run
