"""Text generation with mixed lengths: our worker against transformers alone, on equal threads."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from streamer.bench.baselines.generate_loop import BATCH, GenerateSettings
from streamer.bench.bulk import BulkWorker, planned_threads
from streamer.bench.harness.figures import Section, Target, compared, fast_bfloat16, interleaved
from streamer.bench.harness.program import BenchError
from streamer.inference.spec import DType, WorkerSpec, worker_environment

LIKE_BULK = Target(at_least=0.9)
BEFORE_STATIC = Target(at_least=1.5)
MEAN_LOG_NEW_TOKENS, SPREAD = 3.4, 1.0  # a median of 30 new tokens, a mean of 49
MOST_NEW_TOKENS = 512
PROMPT_TOKENS = (8, 120)
SEED = 7
_LIMIT_S = 1800.0


class Requests(msgspec.Struct, frozen=True):
    """Seeded prompts and the lengths of what follows."""

    prompts: list[str]
    new_tokens: list[int]

    @classmethod
    def of(cls, count: int) -> Requests:
        """`count` of them: the random weights never end a text, so each has its own length, log-normal."""
        draw = random.Random(SEED)
        letters = "abcdefghijklmnopqrstuvwxyz     "
        prompts = ["".join(draw.choices(letters, k=draw.randint(*PROMPT_TOKENS))) for _ in range(count)]
        lengths = [int(draw.lognormvariate(MEAN_LOG_NEW_TOKENS, SPREAD)) for _ in range(count)]
        return cls(prompts, [min(max(length, 1), MOST_NEW_TOKENS) for length in lengths])


def generation_throughput(count: int, rounds: int, progress: Callable[[str], None]) -> Section:
    """New tokens a second, three ways, interleaved."""
    requests = Requests.of(count)
    threads = planned_threads()
    dtype: DType = "bfloat16" if fast_bfloat16() else "float32"
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        model = Path(folder, "model")
        model.mkdir()
        progress("making a model of 47 M weights")
        _program(GenerateSettings("make", str(model)), Path(folder))
        spec = WorkerSpec(
            pipeline="bench", task="text-generation", model=str(model), dtype=dtype, device="cpu", threads=threads
        )
        settings = {
            mode: GenerateSettings(mode, str(model), requests.prompts, requests.new_tokens, threads, dtype)
            for mode in ("continuous", "static")
        }
        ours, bulk, static = interleaved(
            rounds,
            {
                "our worker": partial(_ours, spec, requests),
                "continuous batching in bulk": partial(_program, settings["continuous"], Path(folder)),
                f"static batches of {BATCH}": partial(_program, settings["static"], Path(folder)),
            },
            progress,
        ).values()
    names = "streamer tokens/s", "other tokens/s"
    figures = [
        compared("against transformers' continuous batching in bulk", ours, bulk, names, LIKE_BULK),
        compared(f"against padded batches of {BATCH} in arrival order", ours, static, names, BEFORE_STATIC),
    ]
    notes = [
        f"{count} requests, {sum(requests.new_tokens):,} new tokens, at most {max(requests.new_tokens)} each; "
        f"a Llama of 47 M random weights in {dtype}, {threads} thread(s)",
        f"median ratio of {rounds} interleaved rounds, models loaded and warm",
    ]
    return Section("Text generation, mixed lengths", figures, notes)


def _ours(spec: WorkerSpec, requests: Requests) -> float:
    with BulkWorker(spec=spec, limit_s=_LIMIT_S) as worker:
        if worker.card.dtype != spec.dtype:
            raise BenchError(f"the worker runs in {worker.card.dtype}, not in {spec.dtype}")
        params = [{"max_new_tokens": most} for most in requests.new_tokens]
        return sum(requests.new_tokens) / worker.run(requests.prompts, params).whole_s


def _program(settings: GenerateSettings, folder: Path) -> float:
    path = folder / "settings.json"
    path.write_bytes(msgspec.json.encode(settings))
    spec = WorkerSpec(pipeline="bench", task="text-generation", model=settings.model, threads=settings.threads)
    ended = subprocess.run(
        [sys.executable, "-m", "streamer.bench.baselines.generate_loop", str(path)],
        env=os.environ | worker_environment(spec),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if ended.returncode:
        raise BenchError(f"the {settings.mode} baseline failed: {ended.stderr[-500:]}")
    last = ended.stdout.strip().rpartition("\n")[2]
    return float(msgspec.json.decode(last)["tokens_per_s"]) if last else 0.0
