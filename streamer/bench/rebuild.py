"""How long the health app takes from its start, without a snapshot, until all reports of two hours are summed."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from streamer.bench.harness.bench import Bench
from streamer.bench.harness.figures import Figure, Section, Target
from streamer.bench.harness.program import BenchError, Program
from streamer.bench.health import page, wait_for
from streamer.bench.reports import report_of
from streamer.core.health.windows.fold import HOUR_MS, Fold
from streamer.core.report import read
from streamer.kafka.reader import Reader
from streamer.kafka.writer import Writer
from streamer.local.ports import free_ports

REBUILT_S: Final = Target(at_most=10.0)
RECORDS: Final = 200
"""Records of a report."""
STEP_MS: Final = 1_000
FINISH_S: Final = 120.0
LOOK_S: Final = 0.05


def rebuild(bench: Bench, reports: int, pipelines: int, progress: Callable[[str], None]) -> Section:
    """So many reports of each pipeline, one a second, of a classifier with all measures."""
    (port,) = free_ports(1)
    own = f"bench.rebuild.{random.SystemRandom().getrandbits(32):08x}"
    topic, names = f"{own}.reports", [f"bench{number}" for number in range(pipelines)]
    setup = bench.setup(
        telemetry={"reports": topic, "http": ""},
        health={"topic": f"{own}.words", "feedback": "", "http": f"127.0.0.1:{port}"},
    )
    progress(f"writing {reports * pipelines:,} reports")
    end_ms = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS
    _write(bench, topic, names, reports, end_ms - reports * STEP_MS)
    progress("reading them")
    began, fold = time.process_time(), Fold()
    with Reader(bench.kafka, [topic]) as reader:
        for record in reader.read_until_end():
            if (report := read(record.value())) is not None:
                fold.add(report)
    alone = [window for name in names for window in fold.windows(name, HOUR_MS)]
    folding_s = time.process_time() - began
    progress("starting the app")
    command = [sys.executable, "-m", "streamer", "health", "run", f"--config={setup.path}"]
    with Program(command, setup.path.with_suffix(".health.log")) as app:
        wait_for(app, FINISH_S, lambda: bool((found := page(port, "/healthz")) and found["ok"]), every_s=LOOK_S)
        rebuilt_s = time.monotonic() - app.started
        windows = page(port, f"/windows?length_ms={HOUR_MS}")["windows"]
        app.terminate(FINISH_S)
    bench.delete(setup.input, setup.output, topic, f"{own}.words")
    found = sum(window.results for window in alone), sum(window["results"] for window in windows)
    if set(found) != {RECORDS * reports * pipelines}:
        raise BenchError(f"{found} of {RECORDS * reports * pipelines:,} results are in the windows")
    return Section(
        "Start of `streamer health run` without a snapshot",
        [
            Figure("until all reports are summed", rebuilt_s, "s", REBUILT_S, columns={"reports": reports * pipelines}),
            Figure("CPU time of the app", app.cpu_s, "s", columns={"reports": reports * pipelines}),
            Figure("CPU time to read and sum alone", folding_s, "s", columns={"reports": reports * pipelines}),
        ],
        (f"{pipelines} pipelines, one report a second each, of {RECORDS} results of a classifier with all measures",),
    )


def _write(bench: Bench, topic: str, names: list[str], reports: int, start_ms: int) -> None:
    report = report_of(RECORDS)
    with Writer(bench.kafka) as writer:
        for number in range(reports):
            report.time_ms = start_ms + number * STEP_MS
            report.ranges = [("reviews", 0, number * RECORDS, (number + 1) * RECORDS - 1)]
            for name in names:
                report.pipeline = name
                writer.write(topic, msgspec.json.encode(report), key=name.encode())
        deliveries = writer.flush()
    if deliveries.delivered != reports * len(names):
        raise BenchError(f"{topic}: {deliveries.delivered} of {reports * len(names)} reports were delivered")
