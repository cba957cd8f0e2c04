"""An encoder's passes on a device, three ways: padded, packed, and packed as recorded graphs. Their numbers first, then
how fast each is for windows as live traffic has them and as a backlog has them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from streamer.bench.baselines.encoders import matrix_flops
from streamer.bench.device.answers import how
from streamer.bench.device.busy import busy
from streamer.bench.device.report import Report
from streamer.bench.device.speed import PEAK_ROWS, random_encoder, shape_of, spec_of
from streamer.bench.device.steps import Settings
from streamer.inference.backends import ways
from streamer.inference.backends.cuda_graphs import CudaRecorder, Graphs, Recorder
from streamer.inference.models.tokenizer import Row
from streamer.inference.tasks.families import load

WINDOWS = (1, 4, 16, 64, 512)
"""Texts in a window."""
MEAN_TOKENS, SIGMA, MOST_TOKENS = 24, 0.6, 200
_SECONDS, _SMALL_SECONDS = 0.8, 0.02
_FAR = 0.01
"""Of the cosine of two vectors, from 1."""


class Rerun:
    """Stands for CUDA's graphs where there are none: runs what it recorded again, into the same buffer."""

    def record(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None], int]:
        """As `CudaRecorder`'s."""
        given = torch.empty_like(run())

        def replay() -> None:
            given.copy_(run())

        return given, replay, 0

    def forget(self) -> None:
        """As `CudaRecorder`'s."""


def compare(settings: Settings, report: Report, shape: str) -> None:
    """Random weights of `shape`, in the precision that the device would get."""
    path = str(random_encoder(settings.folder / f"{shape}-passes", "tiny" if settings.small else shape))

    def loaded(packs: bool, dtype: str = "auto") -> Any:
        # Of this process alone, which ends with the step; what the last one found out is not asked.
        os.environ["XDG_CACHE_HOME"] = str(settings.folder / "kept" / f"{shape}-{packs}-{dtype}")
        vars(ways)["packs"] = lambda *_: packs
        if settings.small:
            vars(ways)["score"] = lambda *_: 1.0  # whatever is faster
        spec = spec_of(path, device=settings.device, dtype=dtype, backend="torch", threads=1, batch_tokens=0)
        return load(spec)

    exact, padded, packed = loaded(False, "float32"), loaded(False), loaded(True)
    report.say("padded runs", how(padded))
    report.say("packed runs", how(packed))
    encoder = packed._packed
    if encoder is None:
        report.wrong("it runs padded: the log says why")
        return
    found = encoder.graphs
    if found is None:
        recorder: Recorder = CudaRecorder(packed.device) if packed.device.type == "cuda" else Rerun()
        found = Graphs(encoder.encode, recorder)

    def use(graphs: Graphs | None) -> Callable[[list[Row]], Any]:
        def compute(rows: list[Row]) -> Any:
            encoder.graphs = graphs
            return packed.compute(rows)

        return compute

    by_way = {"padded": padded.compute, "packed": use(None), "graphs": use(found)}
    width, layers, inner = shape_of(path)
    shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
    kind = settings.device.partition(":")[0]
    peak = matrix_flops(
        shapes, 256 if settings.small else PEAK_ROWS[kind], packed.card.dtype, _SMALL_SECONDS, settings.device
    )
    flop = 2 * layers * sum(inputs * outputs for inputs, outputs in shapes)
    report.figure("matrix peak", peak / 1e12, "TFLOP/s")
    known = int(padded.config.vocab_size)
    for texts in WINDOWS[:3] if settings.small else WINDOWS:
        rows = window(texts, known)
        tokens = sum(len(row.ids) for row in rows)
        right = exact.compute(rows)
        for name, compute in by_way.items():
            said = f"{name}, {texts} texts"
            far = max(1 - _cosine(one, other) for one, other in zip(compute(rows), right, strict=True))
            report.figure(f"{said}: cosine from float32, from 1", far)
            if not far <= _FAR:
                report.wrong(f"{said}: a vector is {far:.3g} away from float32")
            with busy(report, said, settings.device):
                rate = tokens / timed(lambda c=compute, r=rows: c(r), settings.small)  # type: ignore[misc]
            report.figure(said, rate, "tok/s")
            report.figure(f"{said}: model FLOP utilisation", rate * flop / peak)
    if found.failed or not found.replayed:
        report.wrong(f"no pass was replayed: {found.failed or 'none was recorded'}")
    report.figure("recordings", len(found.kept))


def window(texts: int, known: int) -> list[Row]:
    """Seeded rows of log-normal lengths."""
    draw = np.random.default_rng(texts)
    mean = np.log(MEAN_TOKENS) - SIGMA**2 / 2
    lengths = np.clip(draw.lognormal(mean, SIGMA, texts).round(), 3, MOST_TOKENS).astype(int)
    return [Row(draw.integers(5, known, length).tolist(), None) for length in lengths]


def timed(work: Callable[[], object], small: bool) -> float:
    """Seconds for one, after the first ones, which record and choose kernels. Each ends with its numbers here."""
    for _ in range(5):
        work()
    began, count = time.perf_counter(), 0
    while True:
        work()
        count += 1
        passed = time.perf_counter() - began
        if passed > (_SMALL_SECONDS if small else _SECONDS):
            return passed / count


def _cosine(one: Any, other: Any) -> float:
    return float(one @ other / max(1e-9, np.linalg.norm(one) * np.linalg.norm(other)))
