"""A model under live traffic: texts that come one by one as a Poisson process, through Kafka and to a worker alone."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from streamer.bench.bulk import MINILM, MINILM_TASK, BulkWorker, Replayed, planned_threads
from streamer.bench.harness.bench import Bench
from streamer.bench.harness.cores import CpuTimes
from streamer.bench.harness.figures import Figure, Section, Target, percentile
from streamer.bench.harness.traffic import Seen, Traffic, at_random, in_turn
from streamer.bench.harness.workload import Event, Workload
from streamer.bench.minilm import has_written_loop, start_written, written_rate
from streamer.local.ports import LOOPBACK, free_ports
from streamer.telemetry.scrape import Replica, scrape

CAPACITY_TEXTS = 3000
WARM_UP_EVENTS = 100_000
SINGLES = 50
NULL_EVENTS = 100
NULL_RATE_PER_S = 20.0
WARM_UP_TEXTS = 1000
LOADS = (0.1, 0.5, 0.8)
# The median latency at a load, in forward passes of one text and builtin:null's latency.
MEDIANS = {0.5: Target(at_most=3.0), 0.8: Target(at_most=6.0)}
REAL_TOKENS = Target(at_least=0.95)
WRITTEN_TEXTS = 320
WRITTEN_LOAD = 0.8
WRITTEN_P50, WRITTEN_P99 = Target(at_most=0.2), Target(at_most=0.3)
LIVE = Target(at_least=0.85)
# The search for the highest rate that is kept up with: between these shares of the backlog's rate, halved so often.
_LEAST, _MOST, _HALVINGS = 0.3, 1.1, 4
_WARM_UPS, _FALLS = 4, 0.9
_GROWTH = 0.05
"""Of what is sent in the second half of a try, by how much the queue may grow in it."""
Progress = Callable[[str], None]


def under_load(bench: Bench, seconds: float, progress: Progress) -> list[Section]:
    """MiniLM through Kafka at shares of the rate that it keeps up with while texts come one by one."""
    progress("latency: measuring MiniLM's rate over a backlog")
    pipeline = {"task": MINILM_TASK, "model": MINILM}
    setup = bench.setup(pipeline=pipeline)
    count = bench.fill(setup.input, Workload(CAPACITY_TEXTS).events())
    backlog = bench.measure(setup, bench.start(setup, "--until-end"), count).records_per_s
    forward_ms = single_forward_ms(progress)
    address = f"{LOOPBACK}:{free_ports(1)[0]}"
    setup = bench.setup(pipeline=pipeline, telemetry={"http": address})
    source = events()
    cores: list[Figure] = []
    with bench.start(setup) as program, Traffic(bench, [setup]) as traffic:
        traffic.warm_up(source)
        live = _live_rate(traffic, source, backlog, seconds, progress)
        null_ms = _null_ms(bench, progress)  # of a broker that has run for as long as the one that the loads get
        figures = [
            Figure("backlog", backlog, "texts/s"),
            Figure("live", live, "texts/s"),
            Figure("live / backlog", live / backlog, "×", LIVE),
            Figure("pass of one text, p50", forward_ms, "ms"),
            Figure("builtin:null, p50", null_ms, "ms"),
        ]
        for share in LOADS:
            progress(f"latency: {share:.0%} of {live:.0f} texts/s for {seconds:g} s")
            before, used = scrape(f"http://{address}/metrics"), CpuTimes.of(program.pid)
            (seen,) = traffic.run(at_random(source, share * live, seconds))
            after, spent = scrape(f"http://{address}/metrics"), CpuTimes.of(program.pid).since(used)
            figures += _at(share, seen, forward_ms + null_ms, _passes(before, after))
            cores.append(Figure(f"{share:.0%}", sum(spent.values()), "cores", columns=spent))
        figures += _against_the_written(bench, traffic, source, seconds, progress)
    notes = (
        f"open loop, Poisson arrivals for {seconds:g} s each; backlog: the rate over {CAPACITY_TEXTS:,} texts",
        f"live: the highest rate at which the queue grows by less than {_GROWTH:.0%} of what is sent",
        "× pass and null: in passes of one text, each together with the latency of builtin:null",
    )
    return [
        Section("MiniLM under load", figures, notes),
        Section("Cores in use meanwhile", cores, ("bench: sender and reader; broker: one that was started for this",)),
    ]


def _against_the_written(
    bench: Bench, ours: Traffic, source: Iterator[Event], seconds: float, progress: Progress
) -> list[Figure]:
    """Latencies at the same share of what the loop that people write can take, first through that, then through ours;
    none without sentence-transformers."""
    if not has_written_loop():
        return []
    progress("latency: the loop that people write")
    backlog = bench.setup().input
    bench.fill(backlog, Workload(WRITTEN_TEXTS).events())
    rate = WRITTEN_LOAD * written_rate(bench, backlog, WRITTEN_TEXTS, planned_threads())
    setup = bench.setup()
    with start_written(bench, setup, planned_threads()), Traffic(bench, [setup]) as traffic:
        traffic.warm_up(source)
        (theirs,) = traffic.run(at_random(source, rate, seconds))
    (seen,) = ours.run(at_random(source, rate, seconds))
    written, own = theirs.latencies_ms, seen.latencies_ms
    name = f"{rate:.0f} texts/s, {WRITTEN_LOAD:.0%} of the written loop's"
    p50, p99 = (percentile(own, share) / percentile(written, share) for share in (0.5, 0.99))
    return [
        Figure(f"{name}: its p50", percentile(written, 0.5), "ms", columns=_spread(written)),
        Figure(f"{name}: p50", p50, "× its", WRITTEN_P50, columns=_spread(own)),
        Figure(f"{name}: p99", p99, "× its", WRITTEN_P99),
    ]


def worker_under_load(seconds: float, progress: Progress) -> Section:
    """MiniLM in a worker that gets its texts from memory, at shares of its own rate in bulk."""
    progress("latency: a worker alone, in bulk")
    texts = Workload(WARM_UP_EVENTS, seed=4).texts()
    with BulkWorker() as worker:
        singles = list(Workload(SINGLES, seed=3).texts())
        worker.run([next(texts) for _ in range(WARM_UP_TEXTS)])
        bulk = worker.run([next(texts) for _ in range(CAPACITY_TEXTS)]).texts_per_s
        forward_ms = statistics.median([worker.run([text]).forward_s for text in singles]) * 1000
        figures = [
            Figure("bulk", bulk, "texts/s"),
            Figure("pass of one text, p50", forward_ms, "ms"),
        ]
        for share in LOADS:
            progress(f"latency: a worker alone at {share:.0%} of {bulk:.0f} texts/s for {seconds:g} s")
            rng = random.Random(1)
            due, at_s = [], 0.0
            while (at_s := at_s + rng.expovariate(share * bulk)) < seconds:
                due.append((at_s, next(texts)))
            figures += _alone(share, worker.replay(due), forward_ms)
    return Section(
        "A worker of MiniLM under load, fed from memory",
        figures,
        (f"open loop, Poisson arrivals for {seconds:g} s each, each text sent by itself when it is due",),
    )


def events() -> Iterator[Event]:
    """A stream of them, none twice."""
    return Workload(WARM_UP_EVENTS, seed=2).events()


def single_forward_ms(progress: Progress) -> float:
    """Milliseconds of a forward pass of one text in a worker that has nothing else to do, the median."""
    progress("latency: single texts through a worker alone")
    texts = list(Workload(SINGLES, seed=3).texts())
    with BulkWorker() as worker:
        return statistics.median([worker.run([text]).forward_s for text in texts]) * 1000


def _null_ms(bench: Bench, progress: Progress) -> float:
    progress("latency: single events through builtin:null")
    setup, source = bench.setup(), events()
    with ExitStack() as programs:
        programs.enter_context(bench.start(setup))
        with Traffic(bench, [setup]) as traffic:
            traffic.warm_up(source)
            (seen,) = traffic.run(in_turn(source, 1, NULL_EVENTS, NULL_RATE_PER_S))
    return statistics.median(seen.latencies_ms)


def _live_rate(traffic: Traffic, source: Iterator[Event], backlog: float, seconds: float, progress: Progress) -> float:
    """The highest rate at which the queue does not grow, by halving."""
    least, most = _LEAST * backlog, _MOST * backlog
    warm_up(traffic, source, least, seconds, progress)
    for _ in range(_HALVINGS):
        rate = (least + most) / 2
        progress(f"latency: is {rate:.0f} texts/s kept up with?")
        (seen,) = traffic.run(at_random(source, rate, seconds))
        if keeps_up(seen):
            least = rate
        else:
            most = rate
    return least


def warm_up(traffic: Traffic, source: Iterator[Event], rate: float, seconds: float, progress: Progress) -> None:
    """Send until the median latency falls no more: a broker that has just started has its code still to compile, and
    passes of sizes that are new take longer."""
    before = float("inf")
    for _ in range(_WARM_UPS):
        progress(f"latency: warming up at {rate:.0f} texts/s")
        (seen,) = traffic.run(at_random(source, rate, seconds))
        median = statistics.median(seen.latencies_ms)
        if median > _FALLS * before:
            return
        before = median


def keeps_up(seen: Seen) -> bool:
    """Whether what is unanswered hardly grew over the second half of the time in which texts were sent."""
    sent = sorted(seen.sent.values())
    middle, end = sent[len(sent) // 2], sent[-1]
    answered = sum(middle < at <= end for at in seen.seen.values())
    late = len(sent) - len(sent) // 2 - 1
    return late - answered <= _GROWTH * late


def _passes(before: Replica, after: Replica) -> dict[str, float]:
    """Of the forward passes between: texts and milliseconds of each, and the share of real tokens."""
    batches = max(1, after.forward_batches - before.forward_batches)
    real, computed = (after.tokens.get(kind, 0) - before.tokens.get(kind, 0) for kind in ("real", "computed"))
    return {
        "texts a pass": (after.forward_records - before.forward_records) / batches,
        "ms a pass": (after.forward_s - before.forward_s) / batches * 1000,
        "real": real / max(1, computed),
    }


def _at(share: float, seen: Seen, unit_ms: float, passes: dict[str, float]) -> list[Figure]:
    real = passes.pop("real")
    name = f"{share:.0%}"
    median = statistics.median(seen.latencies_ms)
    against = [Figure(f"{name}, p50", median / unit_ms, "× pass and null", MEDIANS[share])] if share in MEDIANS else []
    return [
        Figure(f"{name}, p50", median, "ms", columns=_spread(seen.latencies_ms) | passes),
        *against,
        Figure(f"{name}: real / computed tokens", real, "", REAL_TOKENS),
    ]


def _alone(share: float, replayed: Replayed, forward_ms: float) -> list[Figure]:
    latencies = replayed.latencies_ms
    median = statistics.median(latencies)
    passes = {
        "texts a pass": len(latencies) / max(1, replayed.passes),
        "ms a pass": replayed.forward_s / max(1, replayed.passes) * 1000,
    }
    real = replayed.real_tokens / max(1, replayed.computed_tokens)
    return [
        Figure(f"{share:.0%}, p50", median, "ms", columns=_spread(latencies) | passes),
        Figure(f"{share:.0%}, p50", median / forward_ms, "× pass"),
        Figure(f"{share:.0%}: real / computed tokens", real, "", REAL_TOKENS),
    ]


def _spread(latencies_ms: Sequence[float]) -> dict[str, float]:
    return {
        "p90 ms": percentile(latencies_ms, 0.9),
        "p99 ms": percentile(latencies_ms, 0.99),
        "events": len(latencies_ms),
    }
