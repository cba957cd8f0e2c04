"""`streamer infer` over a file, as a user calls it, against programs that read, encode and write the same file in bulk.

Each is a process of its own on the same cores, with the threads that it takes there by itself, and loads the model
itself. What is compared is the time from the loaded model to the end of the process: reading, tokenising, passes and
writing. Ours keeps each row soon after it is answered, and goes on after a kill; the others hold everything in memory.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from streamer.bench.baselines.settings import SENTENCE, SORTED
from streamer.bench.bulk import MINILM, MINILM_TASK
from streamer.bench.harness.figures import Figure, Section, Target, fast_bfloat16, interleaved, median_ratio
from streamer.bench.harness.program import BenchError, Program
from streamer.bench.harness.texts import mixed_texts
from streamer.inference.models.reference import Located, resolve
from streamer.machine.processors import usable_cores

END_S = 3600.0
POLL_S = 0.005
AS_FAST = Target(at_least=1.0)
BACKENDS = {"streamer, torch": "torch", "streamer, OpenVINO": "openvino"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One process. `load_s` is from its start to the loaded model, `rest_s` from there to its end; CPU time and peak
    memory are of the whole, with what it started."""

    load_s: float
    rest_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Work:
    """What each process does: a file of so many texts, through the model in a directory."""

    folder: Path
    source: Path
    count: int
    model: Path
    max_tokens: int
    dtype: str

    def ours(self, backend: str) -> Turn:
        """`streamer infer FILE -o OUT`. Its partial output is there once the model is loaded."""
        output = self.folder / f"ours{self.source.suffix}"
        command = ["infer", str(self.source), "-o", str(output), "--task", MINILM_TASK, "--model", str(self.model)]
        command += ["--dtype", self.dtype, "--set", f"pipelines.infer.backend={backend}", "--option", "normalize=true"]
        turn = self._run(["-m", "streamer", *command], output.with_name(output.name + ".partial"))
        output.unlink()
        return turn

    def other(self, way: str) -> Turn:
        """The program that people write."""
        output, ready = self.folder / f"other{self.source.suffix}", self.folder / "ready"
        settings = {
            "way": way,
            "model": str(self.model),
            "dtype": self.dtype,
            "max_tokens": self.max_tokens,
            "input": str(self.source),
            "output": str(output),
            "ready": str(ready),
        }
        turn = self._run(["-m", "streamer.bench.baselines.file_encoder", json.dumps(settings)], ready)
        ready.unlink()
        output.unlink()
        return turn

    def _run(self, arguments: Sequence[str], ready: Path) -> Turn:
        environment = {"OMP_NUM_THREADS": str(usable_cores())}  # workers choose for themselves
        began = time.perf_counter()
        with Program([sys.executable, *arguments], self.folder / "log", environment) as program:
            while program.runs and not ready.exists():
                time.sleep(POLL_S)
            loaded = time.perf_counter()
            program.finish(END_S)
        if loaded - began > time.perf_counter() - began - POLL_S:
            raise BenchError(f"it ended before its model was loaded:\n{program.last_lines()}")
        return Turn(loaded - began, time.perf_counter() - loaded, program.cpu_s, program.peak_mb)


def file_speed(
    count: int,
    rounds: int,
    formats: Sequence[str],
    dtypes: Sequence[str],
    progress: Callable[[str], None],
) -> list[Section]:
    """A section for each format and dtype; of no dtype given, for the one that the processor is fastest in."""
    located = resolve(MINILM)
    assert isinstance(located, Located)
    max_tokens = json.loads((located.path / "sentence_bert_config.json").read_bytes())["max_seq_length"]
    progress("reading texts")
    texts = mixed_texts(count)
    note = f"{len(texts.texts):,} texts of {statistics.fmean(map(len, texts.texts)):,.0f} characters in the mean: "
    sections = []
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        for kind in formats:
            source = Path(folder, f"texts.{kind}")
            _write(source, texts.texts)
            for dtype in dtypes or ["bfloat16" if fast_bfloat16() else "float32"]:
                work = Work(Path(folder), source, len(texts.texts), located.path, max_tokens, dtype)
                sections.append(_section(f"{kind}, {dtype}", work, rounds, note + texts.source, progress))
    return sections


def _write(path: Path, texts: Sequence[str]) -> None:
    rows = [{"id": f"t{number}", "text": text} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet as parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def _section(title: str, work: Work, rounds: int, note: str, progress: Callable[[str], None]) -> Section:
    there = importlib.util.find_spec
    ours = [name for name in BACKENDS if BACKENDS[name] == "torch" or there("openvino") is not None]
    others = [SORTED, *([SENTENCE] if there("sentence_transformers") is not None else [])]
    runs = {name: partial(work.ours, BACKENDS[name]) for name in ours}
    runs |= {name: partial(work.other, name) for name in others}
    found = interleaved(rounds, {f"{title}: {name}": run for name, run in runs.items()}, progress)
    turns = {name: found[f"{title}: {name}"] for name in runs}
    notes = [
        note,
        f"{usable_cores()} cores, {rounds} interleaved rounds, medians; texts/s from the loaded model to the end",
        "ours writes each row with id, model and source, the others write id and vector",
    ]
    return Section(f"A file: {title}", figures(turns, ours, others, work.count), notes)


def figures(
    turns: Mapping[str, Sequence[Turn]], ours: Sequence[str], others: Sequence[str], count: int
) -> list[Figure]:
    """The rates of all, then ours against the best of the others in each round."""
    rates = {name: [count / turn.rest_s for turn in some] for name, some in turns.items()}
    whole = {name: [count / (turn.load_s + turn.rest_s) for turn in some] for name, some in turns.items()}
    by_cpu = {name: [count / turn.cpu_s for turn in some] for name, some in turns.items()}
    rows = []
    for name, some in turns.items():
        columns = {
            "load s": statistics.median(turn.load_s for turn in some),
            "CPU s": statistics.median(turn.cpu_s for turn in some),
            "peak MB": statistics.median(turn.peak_mb for turn in some),
        }
        rows.append(Figure(name, statistics.median(rates[name]), "texts/s", None, rates[name], columns))
    for name in ours:
        against = [
            median_ratio(some[name], [max(turn) for turn in zip(*(some[other] for other in others), strict=True)])
            for some in (rates, whole, by_cpu)
        ]
        (ratio, ratios), (with_load, _), (cpu, _) = against
        columns = {"with loading": with_load, "by CPU time": cpu}
        rows.append(Figure(f"{name} / best other", ratio, "×", AS_FAST, ratios, columns))
    return rows
