"""What single flight is worth: equal texts in flight are computed once. Without any cache, and without Kafka."""

from __future__ import annotations

import io
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from streamer.app.infer import infer
from streamer.bench.bulk import MINILM, MINILM_TASK
from streamer.bench.harness.figures import Section, Target, compared, interleaved
from streamer.bench.harness.program import BenchError
from streamer.bench.harness.workload import Workload
from streamer.config.load import load
from streamer.errors import ExitCode
from streamer.files.rows import Fields, Rows
from streamer.files.sink import Stream

PIPELINE = "single-flight"
REPEATS = 0.3
NEAR = 200  # texts back, at most: a repeat of one that is still in flight
MICRO_BATCH = 500
WORTH = Target(at_least=1.35)


def single_flight(records: int, rounds: int, progress: Callable[[str], None]) -> Section:
    """30 % repeats against as many other texts of the same words."""
    turns: dict[str, Callable[[], float]] = {
        "repeats in flight": partial(_rate, list(_texts(records, repeat=True))),
        "distinct texts": partial(_rate, list(_texts(records, repeat=False))),
    }
    with_repeats, distinct = interleaved(rounds, turns, progress).values()
    names = "repeats texts/s", "distinct texts/s"
    return Section(
        "Single flight",
        [compared(f"{REPEATS:.0%} repeats / none", with_repeats, distinct, names, WORTH)],
        [
            f"{records:,} texts of 24 tokens in the mean, MiniLM, one worker, no cache; {rounds} interleaved rounds",
            f"a repeat is of one of the last {NEAR} texts; in the other run it has the same words in another order",
        ],
    )


def _texts(records: int, *, repeat: bool) -> Iterator[str]:
    rng = random.Random(1)
    fresh = Workload(records).texts()
    recent: list[str] = []
    for _ in range(records):
        if recent and rng.random() < REPEATS:
            again = rng.choice(recent)
            words = again.split()
            rng.shuffle(words)
            yield again if repeat else " ".join([*words, "again"])
        else:
            text = next(fresh)
            recent = [*recent[-NEAR + 1 :], text]
            yield text


class _Arrivals(io.BytesIO):
    """When lines came, and how many at the first time; their content is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = self.first_lines = 0
        self.first_s = self.last_s = 0.0

    def write(self, lines: bytes) -> int:  # type: ignore[override]
        """Count."""
        self.last_s = time.perf_counter()
        count = lines.count(b"\n")
        self.lines += count
        if self.first_lines == 0 and count:
            self.first_lines, self.first_s = count, self.last_s
        return len(lines)


def _rate(texts: list[str]) -> float:
    """Texts a second behind the first that came."""
    fields = {"task": MINILM_TASK, "model": MINILM, "workers": 1, "micro_batch_records": MICRO_BATCH}
    settings = [f"pipelines.{PIPELINE}.{name}={value}" for name, value in fields.items()]
    settings += [f"pipelines.{PIPELINE}.input=lines", f"pipelines.{PIPELINE}.output=lines.out"]
    config = load(None, {}, [*settings, "cache.url=", "cache.memory_mb=0"])
    encode = msgspec.json.Encoder().encode
    lines: Any = io.BufferedReader(io.BytesIO(b"\n".join(encode({"text": text}) for text in texts)))
    arrivals = _Arrivals()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code, _ = infer(config, PIPELINE, Rows(["-"], lines, "jsonl", Fields()), Stream(arrivals))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if code is not ExitCode.DONE or arrivals.lines != len(texts):
        raise BenchError(f"{arrivals.lines} answers to {len(texts)} texts, exit code {code}")
    return (arrivals.lines - arrivals.first_lines) / max(arrivals.last_s - arrivals.first_s, 1e-9)
