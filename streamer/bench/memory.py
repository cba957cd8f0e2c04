"""Memory of the driver over a backlog: bounded, flat, and without torch in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from streamer.bench.harness.bench import MEMORY_MB, Bench
from streamer.bench.harness.figures import Figure, Section, Target
from streamer.bench.harness.program import BenchError, Program
from streamer.bench.harness.workload import Workload

SAMPLE_S = 0.1
MOST_MB = Target(at_most=200.0)
GROWTH_MB = Target(at_most=10.0)
MODELS: Mapping[str, Mapping[str, Any]] = {
    "slow worker": {"task": "bench", "model": "python:streamer.bench.models:Slow"},
    "builtin:null": {},
}


def driver_memory(bench: Bench, records: int, seconds: float, progress: Callable[[str], None]) -> Section:
    """The driver's resident memory while it works on a backlog, for at most `seconds` each."""
    backlog = bench.setup().input
    progress(f"memory: writing {records:,} events")
    bench.fill(backlog, Workload(records).events())
    figures: list[Figure] = []
    for name, pipeline in MODELS.items():
        progress(f"memory: {name}")
        setup = bench.setup(input_topic=backlog, pipeline=pipeline, cache=True)
        with bench.start(setup, "--until-end") as program:
            samples = _watch(program, seconds)
            if program.runs:
                program.terminate(60.0)
        if not samples:
            raise BenchError(f"{name}: ended before it could be watched:\n{program.last_lines()}")
        figures += _figures(name, samples)
    return Section(
        f"The driver's resident memory over a backlog of {records:,} events, LRU of {MEMORY_MB} MB on",
        figures,
        (
            f"sampled each {SAMPLE_S:g} s for at most {seconds:g} s",
            "growth: from the mean of the third quarter of the time to that of the last (before, the cache fills)",
            "no torch library was mapped in the driver",
        ),
    )


def _watch(program: Program, seconds: float) -> list[float]:
    """Resident MB until the program ends or the time is up."""
    samples: list[float] = []
    end = time.monotonic() + seconds
    process = Path(f"/proc/{program.pid}")
    while time.monotonic() < end and program.runs:
        try:
            pages = int((process / "statm").read_text().split()[1])
            maps = (process / "maps").read_text()
        except (OSError, IndexError):
            break
        if "libtorch" in maps:
            raise BenchError("torch is mapped in the driver")
        if pages:
            samples.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        time.sleep(SAMPLE_S)
    return samples


def _figures(name: str, samples: list[float]) -> list[Figure]:
    quarter = max(1, len(samples) // 4)
    early, late = samples[2 * quarter : 3 * quarter] or samples, samples[-quarter:]
    growth = sum(late) / len(late) - sum(early) / len(early)
    columns = {"samples": len(samples)}
    return [
        Figure(f"{name}, most", max(samples), "MB", MOST_MB, columns=columns),
        Figure(f"{name}, growth", growth, "MB", GROWTH_MB, columns=columns),
    ]
