"""Throughput without a model: `streamer run` with `builtin:null` against the shortest transactional loop."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from streamer.bench.harness.bench import PARTITIONS, Bench, Measured, rates
from streamer.bench.harness.figures import Figure, Section, Target, compared, interleaved
from streamer.bench.harness.workload import Workload
from streamer.machine.processors import usable_cores

RAW_SIZES = (1000, 2000, 5000, 10_000)
TOGETHER = (0.3, 0.9)
"""The part of a run in which all members work."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a workload, with or without cache."""

    name: str
    cache: bool = False
    repeats: float = 0.0
    sampled: float | None = None
    target: Target | None = None

    def workload(self, records: int) -> Workload:
        """Its events."""
        return Workload(records, repeats=self.repeats, sampled=self.sampled)


NULL = (Case("cache off", target=Target(at_least=0.8)),)
CACHE = (
    Case("LRU and Redis, no repeats", cache=True, target=Target(at_least=0.5)),
    Case("LRU and Redis, 30 % repeats", cache=True, repeats=0.3),
)
SPANS = (
    Case("no trace sampled", sampled=0.0),
    Case("1 % of traces sampled", sampled=0.01),
    Case("100 % of traces sampled", sampled=1.0),
)


def null_throughput(
    bench: Bench, cases: Sequence[Case], records: int, rounds: int, raw_size: int, progress: Progress
) -> Section:
    """Records a second through each case, beside the raw loop on the same input.

    `raw_size` is the raw loop's micro-batch; 0 takes the best of `RAW_SIZES`, measured first.
    """
    figures: list[Figure] = []
    clock, size = "", raw_size
    for case in cases:
        backlog = bench.setup().input
        progress(f"{case.name}: writing {records:,} events")
        bench.fill(backlog, case.workload(records).events())
        size = size or best_raw_size(bench, backlog, records, progress)
        rounds_of = interleaved(
            rounds,
            {
                f"{case.name}: streamer": partial(_ours, bench, case, backlog, records),
                f"{case.name}: raw loop": partial(raw, bench, backlog, records, size),
            },
            progress,
        )
        ours, theirs = rounds_of.values()
        clock = ours[0].clock
        figures.append(_figure(case, ours, theirs))
        bench.delete(backlog)
    notes = (
        ("where Redis does not answer in time, streamer goes on without it for a while, and is faster",)
        if any(case.cache for case in cases)
        else ()
    )
    return Section(
        f"builtin:null, exactly once, a backlog of {records:,} events in 4 partitions",
        figures,
        (
            f"ratio: median of {rounds} interleaved rounds against the raw loop on the same input with the same client"
            f" properties, in micro-batches of {size:,}{_choice(raw_size)}",
            f"rate: first to last result by the {clock}'s timestamps; CPU: of the whole program with its children,"
            " start included",
            *notes,
        ),
    )


def reports_throughput(bench: Bench, records: int, rounds: int, progress: Progress) -> Section:
    """Records a second with the reports that health lives on, beside a run without them, on the same input."""
    backlog = bench.setup().input
    progress(f"reports: writing {records:,} events")
    bench.fill(backlog, Workload(records).events())

    def run(telemetry: Mapping[str, str]) -> Measured:
        setup = bench.setup(input_topic=backlog, telemetry=telemetry)
        return bench.measure(setup, bench.start(setup, "--until-end"), records)

    programs = {"with reports": partial(run, {}), "without reports": partial(run, {"reports": ""})}
    reporting, silent = interleaved(rounds, programs, progress).values()
    bench.delete(backlog)
    columns = "with reports, records/s", "without, records/s"
    found = compared("with reports", rates(reporting), rates(silent), columns, Target(at_least=0.97), "× without")
    cpu = _cpu({"with reports": reporting, "without": silent})
    return Section(
        f"builtin:null, exactly once, a backlog of {records:,} events, with reports and without",
        [replace(found, columns={**found.columns, **cpu})],
        (f"ratio: median of {rounds} interleaved rounds",),
    )


def of_members(bench: Bench, members: int, records: int, rounds: int, progress: Progress) -> Section:
    """Records a second through so many members of the null pipeline, beside one on the same input."""
    backlog = bench.setup().input
    progress(f"writing {records:,} events")
    bench.fill(backlog, Workload(records).events())

    def run(count: int) -> Measured:
        setup = bench.setup(input_topic=backlog, pipeline={"members": count})
        return bench.measure(setup, bench.start(setup, "--until-end"), records, TOGETHER)

    programs = {f"members: {count}": partial(run, count) for count in (members, 1)}
    several, one = interleaved(rounds, programs, progress).values()
    bench.delete(backlog)
    columns = f"{members} members, records/s", "one, records/s"
    target = Target(at_least=1.5 if usable_cores() >= 2 * members else 1.0)
    found = compared(f"{members} members", rates(several), rates(one), columns, target, "× one")
    found = replace(found, columns={**found.columns, **_cpu({f"{members} members": several, "one": one})})
    first, last = (f"{share:.0%}" for share in TOGETHER)
    return Section(
        f"builtin:null, exactly once, a backlog of {records:,} events in {PARTITIONS} partitions, {members} members",
        [found],
        (
            f"ratio: median of {rounds} interleaved rounds; rate: from {first} to {last} of the results by the"
            f" {one[0].clock}'s timestamps, when all members have joined and none has ended",
            "CPU: of the whole program with its children, starts included",
        ),
    )


def _choice(raw_size: int) -> str:
    return "" if raw_size else f" (the best of {', '.join(f'{size:,}' for size in RAW_SIZES)})"


def raw(bench: Bench, backlog: str, records: int, size: int) -> Measured:
    """One run of the raw loop over a backlog."""
    setup = bench.setup(input_topic=backlog)
    return bench.measure(setup, bench.start_raw(setup, micro_batch_records=size, records=records), records)


def best_raw_size(bench: Bench, backlog: str, records: int, progress: Progress) -> int:
    """The micro-batch size with which the raw loop is fastest, the better of two runs each."""
    best: dict[int, float] = {}
    for turn in range(2):
        for size in RAW_SIZES:
            progress(f"raw loop: micro-batches of {size:,}, run {turn + 1} of 2")
            best[size] = max(best.get(size, 0.0), raw(bench, backlog, records, size).records_per_s)
    return max(best, key=best.__getitem__)


def _ours(bench: Bench, case: Case, backlog: str, records: int) -> Measured:
    setup = bench.setup(input_topic=backlog, cache=case.cache)
    return bench.measure(setup, bench.start(setup, "--until-end"), records)


def _figure(case: Case, ours: Sequence[Measured], theirs: Sequence[Measured]) -> Figure:
    found = compared(case.name, rates(ours), rates(theirs), ("streamer records/s", "raw records/s"), case.target)
    columns = {**found.columns, **_cpu({"streamer": ours, "raw": theirs})}
    if case.cache:
        columns["rounds with Redis throughout"] = f"{sum(not run.suspended for run in ours)} of {len(ours)}"
    return replace(found, unit="× raw loop", columns=columns)


def _cpu(runs: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    return {
        f"{who} CPU µs/record": statistics.median([run.cpu_us_per_record for run in each]) for who, each in runs.items()
    }
