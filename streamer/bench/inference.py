"""The worker's own speed, without Kafka: against the ways people embed texts in one process, and against the machine.

The worker's model runs in this process, which is set up as a worker's, the others in one of their own; all on one
thread, turn by turn. Wall time is what counts; beside it stands the ratio by the process's CPU time, which other
programs on the machine disturb less.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.bench.baselines import sentence_openvino
from streamer.bench.baselines.settings import ARRIVAL, SENTENCE, SORTED
from streamer.bench.bulk import MINILM, MINILM_TASK
from streamer.bench.harness.contenders import Elsewhere, Ours, Took, Way
from streamer.bench.harness.figures import Figure, Section, Target, interleaved, median_ratio
from streamer.bench.harness.texts import Texts, real_texts
from streamer.inference.spec import WorkerSpec, worker_environment

TORCH, OPENVINO = "streamer, torch", "streamer, OpenVINO"
SENTENCE_OPENVINO = "sentence-transformers, OpenVINO"
PEAK = "matrix peak"
PEAK_ROWS = 1024
PEAK_S = 0.3
AS_FAST = Target(at_least=1.0)
MIXED = Target(at_least=2.5)
REAL_TOKENS = Target(at_least=0.93)
OF_PEAK = {TORCH: Target(at_least=0.6), OPENVINO: Target(at_least=0.72)}
FLOAT32 = Target(at_least=2.0)


def one_thread() -> None:
    """For this process; to be called before torch is imported."""
    os.environ.update(worker_environment(WorkerSpec("bench", MINILM_TASK, MINILM)))


def inference_speed(
    short: int,
    rounds: int,
    progress: Callable[[str], None],
    model: str = MINILM,
    openvino_python: str = "",
    dtypes: Sequence[str] = (),
) -> list[Section]:
    """A section for each dtype; of none given, for float32 and for what the processor is faster in.

    `openvino_python` is a Python that has `sentence-transformers[openvino]`.
    """
    one_thread()
    import torch

    from streamer.errors import ModelError
    from streamer.inference.models.device import choose_dtype
    from streamer.inference.models.reference import Located, resolve

    torch.set_num_threads(1)
    located = resolve(model)
    assert isinstance(located, Located)
    sets = real_texts(short)
    native = str(choose_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    measured, left_out = which_dtypes(dtypes, native)
    sections = []
    for dtype in measured:
        progress(f"{dtype}: loading")
        ours = {TORCH: Ours(dtype, "torch", model)}
        notes = list(left_out)
        if importlib.util.find_spec("openvino") is not None:
            try:
                ours[OPENVINO] = Ours(dtype, "openvino", model)
            except ModelError as error:  # of a dtype that this processor lacks
                notes.append(str(error))
        settings = {"model": str(located.path), "dtype": dtype, "max_tokens": ours[TORCH].model.card.max_tokens}
        with _others(settings, openvino_python) as others:
            section = _section(dtype, located.path, ours, others, sets, rounds, progress)
        sections.append(replace(section, notes=[*section.notes, *notes]))
    return sections


def which_dtypes(asked: Sequence[str], native: str) -> tuple[Sequence[str], list[str]]:
    """Those to measure, and what to say of those that are not. `native` is the one that the processor is fastest in."""
    if asked:
        return asked, []
    if native == "float32":
        note = "bfloat16 is left out: this processor would only emulate it (--dtype bfloat16 measures it all the same)"
        return [native], [note]
    return [native, "float32"], []


@contextmanager
def _others(settings: Mapping[str, Any], openvino_python: str) -> Iterator[dict[str, Way]]:
    """By name; their processes end with the context."""
    ways = [ARRIVAL, SORTED]
    if importlib.util.find_spec("sentence_transformers") is not None:
        ways.append(SENTENCE)
    plain = [sys.executable, "-m", "streamer.bench.baselines.encoders"]
    with ExitStack() as stack:
        encoders = stack.enter_context(Elsewhere(plain, {**settings, "ways": ways}))
        others = {name: encoders.way(name) for name in ways}
        if openvino_python:
            command = [openvino_python, sentence_openvino.__file__]
            others[SENTENCE_OPENVINO] = stack.enter_context(Elsewhere(command, settings)).way()
        yield others


def _section(
    dtype: str,
    path: Path,
    ours: Mapping[str, Ours],
    others: Mapping[str, Way],
    sets: Sequence[Texts],
    rounds: int,
    progress: Callable[[str], None],
) -> Section:
    from streamer.bench.baselines.encoders import PlainTransformers, matrix_flops

    contenders: dict[str, Any] = {**ours, **others}
    config = ours[TORCH].model.config
    exact = PlainTransformers(path, "float32", ours[TORCH].model.card.max_tokens, sort=True)
    width, inner = config.hidden_size, config.intermediate_size
    shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
    figures: list[Figure] = []
    for chosen in sets:
        expected = exact.encode(chosen.texts)
        for contender in contenders.values():
            contender.encode(chosen.texts[:8])  # the first passes allocate
        turns: dict[str, Callable[[], Took]] = {
            f"{chosen.name}, {dtype}: {name}": partial(_timed, contender, chosen.texts)
            for name, contender in contenders.items()
        }
        peaks: list[float] = []

        def peak(found: list[float] = peaks) -> Took:
            found.append(matrix_flops(shapes, PEAK_ROWS, dtype, PEAK_S))
            return Took(0.0, 0.0)

        turns[f"{chosen.name}, {dtype}: {PEAK}"] = peak
        took = interleaved(rounds, turns, progress)
        times = {name: took[f"{chosen.name}, {dtype}: {name}"] for name in contenders}
        lengths = np.array([one.tokens for one in ours[TORCH].model.encode(chosen.texts, None, None)])
        flops = _flops_a_token(shapes, config.num_hidden_layers, width, lengths)
        measured = Measured(chosen.name, dtype, times, list(ours), list(others), peaks, flops, int(lengths.sum()))
        cosines = {}
        for name, contender in contenders.items():
            vectors = contender.vectors() if isinstance(contender, Ours) else contender.encode(chosen.texts)
            cosines[name] = float((vectors * expected).sum(axis=1).min())
        figures += measured.figures(cosines)
        real = ours[TORCH].real_tokens / ours[TORCH].computed_tokens
        figures.append(Figure(f"{chosen.name}: real tokens of those computed", real, "", REAL_TOKENS))
    notes = [
        f"one thread, {rounds} interleaved rounds, medians; tokens/s are real tokens, from texts to vectors",
        *(f"{one.name}: {len(one.texts)} texts, {one.source}" for one in sets),
        f"matrix peak: the model's linear layers on {PEAK_ROWS} rows, the fastest turn of each round; shares of it are"
        " by CPU time; streamer with torch is held against the others with torch, with OpenVINO against all",
    ]
    return Section(f"Embedding on one thread in {dtype}", figures, notes)


def _timed(contender: Any, texts: Sequence[str]) -> Took:
    if isinstance(contender, Way):
        return contender.timed(texts)
    wall, cpu = time.perf_counter(), time.process_time()
    contender.encode(texts)
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def _flops_a_token(shapes: Sequence[tuple[int, int]], layers: int, width: int, lengths: npt.NDArray[np.int64]) -> float:
    """Multiplications and additions of a token: its linear layers, and its scores and sums with its own text's."""
    linear = 2 * sum(inputs * outputs for inputs, outputs in shapes)
    attention = 4 * width * float((lengths**2).sum() / lengths.sum())
    return layers * (linear + attention)


@dataclass(frozen=True, slots=True)
class Measured:
    """The turns of one set of texts; `peaks` are FLOP/s and `flops` those of a token."""

    name: str
    dtype: str
    times: Mapping[str, Sequence[Took]]
    ours: Sequence[str]
    others: Sequence[str]
    peaks: Sequence[float]
    flops: float
    tokens: int

    def figures(self, cosines: Mapping[str, float]) -> list[Figure]:
        """The rates of all, then ours against what they have to reach."""
        rows = [self._rate(one, cosines[one]) for one in (*self.ours, *self.others)]
        of_torch = [one for one in self.others if one != SENTENCE_OPENVINO]
        for one in self.ours:
            others = of_torch if one == TORCH else self.others
            rows.append(self._against(f"{self.name}: {one} / best other", one, others, AS_FAST))
        if self.name == "mixed":
            served = self.ours[-1]  # what `auto` takes
            rows.append(self._against(f"{self.name}: {served} / {ARRIVAL}", served, [ARRIVAL], MIXED))
        if self.dtype == "float32" and OPENVINO in self.ours:
            rows.append(self._against(f"{self.name}: {OPENVINO} / torch's best", OPENVINO, of_torch, FLOAT32))
        if self.name == "short" and self.dtype == "bfloat16":
            rows += [self._of_peak(one) for one in self.ours]
        return rows

    def _rates(self, one: str) -> list[float]:
        return [self.tokens / took.wall_s for took in self.times[one]]

    def _rates_by_cpu(self, one: str) -> list[float]:
        return [self.tokens / took.cpu_s for took in self.times[one]]

    def _shares(self, one: str) -> list[float]:
        return [rate * self.flops / peak for rate, peak in zip(self._rates_by_cpu(one), self.peaks, strict=True)]

    def _rate(self, one: str, cosine: float) -> Figure:
        rates = self._rates(one)
        columns = {
            "by CPU time": statistics.median(self._rates_by_cpu(one)),
            "of the peak": statistics.median(self._shares(one)),
            "least cosine to fp32": f"{cosine:.6f}",
        }
        return Figure(f"{self.name}: {one}", statistics.median(rates), "tok/s", None, rates, columns)

    def _of_peak(self, one: str) -> Figure:
        shares = self._shares(one)
        columns = {"peak GFLOP/s": statistics.median(self.peaks) / 1e9, "MFLOP a token": self.flops / 1e6}
        title = f"{self.name}: {one} / matrix peak"
        return Figure(title, statistics.median(shares), "", OF_PEAK[one], shares, columns)

    def _against(self, title: str, one: str, others: Sequence[str], target: Target) -> Figure:
        """Against the best of the others in each round."""
        best = [max(found) for found in zip(*map(self._rates, others), strict=True)]
        ratio, ratios = median_ratio(self._rates(one), best)
        best_by_cpu = [max(found) for found in zip(*map(self._rates_by_cpu, others), strict=True)]
        by_cpu, _ = median_ratio(self._rates_by_cpu(one), best_by_cpu)
        return Figure(title, ratio, "×", target, ratios, {"by CPU time": by_cpu})
