"""Latency: from handing a single event to the producer's client to the result in a read_committed reader's hands."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack

from streamer.bench.bulk import MINILM, MINILM_TASK
from streamer.bench.harness.bench import Bench
from streamer.bench.harness.figures import Figure, Section, Target, percentile
from streamer.bench.harness.traffic import Seen, Traffic, in_turn
from streamer.bench.live import events as stream
from streamer.bench.live import single_forward_ms
from streamer.local.ports import LOOPBACK, free_ports
from streamer.telemetry.scrape import scrape

RAW_RECORDS = 2000
MEDIAN = Target(at_most=1.5)
P99 = Target(at_most=2.0)
Progress = Callable[[str], None]


def single_events(bench: Bench, events: int, rate_per_s: float, *, model: bool, progress: Progress) -> Section:
    """Single events at a low rate through the raw loop, `builtin:null` and, with `model`, MiniLM, all three running at
    once and served in turn; then single texts through a worker alone."""
    names = ["raw loop", "builtin:null", *(["MiniLM"] if model else [])]
    setups = [bench.setup() for _ in names[:2]]
    address = f"{LOOPBACK}:{free_ports(1)[0]}"
    if model:
        pipeline = {"task": MINILM_TASK, "model": MINILM}
        setups.append(bench.setup(pipeline=pipeline, telemetry={"http": address}))
    source = stream()
    with ExitStack() as programs, Traffic(bench, setups) as traffic:
        programs.enter_context(bench.start_raw(setups[0], micro_batch_records=RAW_RECORDS, wait="first"))
        for setup in setups[1:]:
            programs.enter_context(bench.start(setup))
        progress(f"latency: starting {', '.join(names)}")
        traffic.warm_up(source)
        progress(f"latency: {events} events each, {rate_per_s:g} a second")
        before = scrape(f"http://{address}/metrics") if model else None
        seen = traffic.run(in_turn(source, len(names), events, rate_per_s))
        after = scrape(f"http://{address}/metrics") if model else None
    raw, null, *others = seen
    figures = [_row("raw loop, p50", raw), _row("builtin:null, p50", null), *_against(raw, null, "builtin:null")]
    if before is not None and after is not None:
        passes = after.forward_batches - before.forward_batches
        forward_ms = (after.forward_s - before.forward_s) / passes * 1000
        figures += [
            _row("MiniLM, p50", others[0]),
            Figure("its forward pass in that run, mean", forward_ms, "ms"),
            *_against(raw, others[0], "MiniLM beyond its forward pass", forward_ms),
            Figure("one text's forward pass alone, p50", single_forward_ms(progress), "ms"),
        ]
    return Section(
        f"Latency of single events, {rate_per_s:g} a second",
        figures,
        (
            f"{events} events each, sent in turn while all run at once; exactly once, 4 partitions",
            "raw loop: polls for its first record, takes what is there, one transaction",
        ),
    )


def _against(raw: Seen, ours: Seen, name: str, forward_ms: float = 0.0) -> list[Figure]:
    p99 = percentile(ours.latencies_ms, 0.99) - forward_ms
    return [
        Figure(f"{name}, p50", (_p50(ours) - forward_ms) / _p50(raw), "× raw loop", MEDIAN),
        Figure(f"{name}, p99", p99 / percentile(raw.latencies_ms, 0.99), "× raw loop", P99),
    ]


def _row(name: str, seen: Seen) -> Figure:
    latencies = seen.latencies_ms
    columns = {"p90 ms": percentile(latencies, 0.9), "p99 ms": percentile(latencies, 0.99), "events": len(latencies)}
    return Figure(name, _p50(seen), "ms", columns=columns)


def _p50(seen: Seen) -> float:
    return statistics.median(seen.latencies_ms)
