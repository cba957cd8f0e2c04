"""`streamer dlq list` over a large dead-letter topic: against the shortest loop that reads its headers."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from streamer.bench.harness.bench import FINISH_S, PARTITIONS, PIPELINE, Bench, Setup
from streamer.bench.harness.figures import Figure, Section, Target, compared, interleaved
from streamer.bench.harness.program import BenchError, Program
from streamer.bench.harness.workload import Event, Workload
from streamer.core.deadletters.envelope import wrap
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import MemoryRecord
from streamer.errors import Code, DataFailure
from streamer.kafka.clients import reader_properties
from streamer.kafka.scan import BATCH_RECORDS

SAMPLE_S = 0.02
ONE_IN = 100
RATIO = Target(at_least=0.6)
MOST_MB = Target(at_most=300.0)
FILTER = ("--code", Code.INFER_NAN.value)
_CARD = ModelCard("bench", "0123456789ab", "text-classification", "float32", "torch")


def dead_letter_listing(bench: Bench, records: int, rounds: int, progress: Callable[[str], None]) -> Section:
    """Records a second that `list` filters, beside the bare loop in turn, and its memory."""
    setup = bench.setup()
    topic = setup.config.pipelines[PIPELINE].dead_letter
    progress(f"dlq: writing {records:,} dead letters")
    bench.fill(topic, _dead_letters(records))
    expected = -(-records // ONE_IN)
    peaks_mb: list[float] = []

    def ours() -> float:
        command = [sys.executable, "-m", "streamer", "dlq", "list", topic, "--json", *FILTER, f"--config={setup.path}"]
        rate, peak_mb, lines = _run(Program(command, setup.path.with_suffix(".list.log")), records)
        if lines != expected:
            raise BenchError(f"list found {lines} of {expected} dead letters")
        peaks_mb.append(peak_mb)
        return rate

    listed, bare = interleaved(
        rounds, {"streamer dlq list": ours, "headers alone": lambda: _bare(bench, setup, topic, records)}, progress
    ).values()
    bench.delete(topic)
    return Section(
        f"`streamer dlq list {' '.join(FILTER)}` over {records:,} dead letters, {expected:,} of which match",
        [
            compared("of the bare loop", listed, bare, ("list records/s", "bare records/s"), RATIO),
            Figure("memory, most", max(peaks_mb), "MB", MOST_MB, peaks_mb),
        ],
        (
            "whole programs, from their start to their end",
            f"the bare loop consumes {BATCH_RECORDS:,} at a time and calls headers() of each, nothing else",
        ),
    )


def _bare(bench: Bench, setup: Setup, topic: str, records: int) -> float:
    settings = {
        "consumer": reader_properties(bench.kafka),
        "topic": topic,
        "partitions": PARTITIONS,
        "records": records,
        "batch_records": BATCH_RECORDS,
    }
    return _run(bench.start_loop(setup, "header_loop", settings), records)[0]


def _run(program: Program, records: int) -> tuple[float, float, int]:
    """Records a second, the most resident MB, and the lines that it wrote."""
    peak_mb = 0.0
    with program:
        while program.runs:
            peak_mb = max(peak_mb, _peak_mb(program.pid))
            time.sleep(SAMPLE_S)
        seconds = time.monotonic() - program.started
        program.finish(FINISH_S)
    with program.log.open("rb") as log:
        lines = sum(line.startswith(b"{") for line in log)
    return records / seconds, peak_mb, lines


def _peak_mb(pid: int) -> float:
    """The most that a process has had in memory so far; 0 when it is gone."""
    try:
        found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _dead_letters(records: int) -> Iterator[Event]:
    """Events as the dead letters that they would be; one in a hundred has the code that is filtered for."""
    for number, event in enumerate(Workload(records, sampled=0.1).events()):
        code = Code.INFER_EXCEPTION if number % ONE_IN else Code.INFER_NAN
        failure = DataFailure(code, f"The model raised for this text alone, in head {number % 12}.", "ValueError")
        _, _, key, value, headers = wrap(
            MemoryRecord("bench", number % PARTITIONS, number // PARTITIONS, event.key, event.value, event.headers, -1),
            failure,
            pipeline=PIPELINE,
            card=_CARD,
            dead_letter_topic="",
            limit_bytes=1_000_000,
            time_ms=1_700_000_000_000 + number,
        )
        yield Event(key or b"", value or b"", headers)
