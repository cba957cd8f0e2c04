"""Whether a batch that is too large for the device's memory is divided and answered whole, and its worker lives on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from streamer.bench.bulk import BulkWorker
from streamer.bench.device.answers import distance
from streamer.bench.device.report import Report
from streamer.bench.device.speed import random_encoder, spec_of
from streamer.bench.device.steps import Settings
from streamer.bench.harness.workload import Workload
from streamer.inference.channel import Done, Started
from streamer.inference.model import Encoded
from streamer.inference.models import kept
from streamer.inference.tasks.families import load
from streamer.inference.worker.forwarder import Computation, Forwarder

ENDLESS = 1 << 30
"""Tokens of a batch: no bound."""
LEFT_BYTES = 500_000_000
_CPU_TOKENS = 500
_FAR = 0.05


def passes(settings: Settings, report: Report) -> None:
    """In this process, with a part of the memory that the batch needs."""
    shape, count = ("tiny", 200) if settings.small else ("minilm", 20_000)
    model: Any = load(_spec(settings, shape))
    texts = list(Workload(count, mean_tokens=150).texts())
    encoded = [one for one in model.encode(texts, None, None) if isinstance(one, Encoded)]
    computations = [Computation(number, one) for number, one in enumerate(encoded)]
    few = computations[:: max(1, count // 50)]
    expected, _, _ = _run(model, few, 0)
    with scarce(model):
        found, failed, tokens = _run(model, computations, ENDLESS)
    report.figure("texts", len(computations))
    report.figure("tokens of a batch after it", tokens)
    if failed or len(found) != count:
        report.wrong(f"{len(found)} of {count} texts were answered, and {failed} failed")
    elif tokens >= ENDLESS:
        report.wrong("memory never ran out")
    far = max(distance(one, found.get(number))[0] for number, one in expected.items())
    report.figure("largest difference to the answers before it", far)
    if not far <= _FAR:
        report.wrong(f"an answer is {far:.3g} away from the one before it")


def worker(settings: Settings, report: Report) -> None:
    """A real one, beside a program that takes nearly all memory, which then lets it go."""
    spec = _spec(settings, "tiny" if settings.small else "base", batch_tokens=ENDLESS)
    texts = list(Workload(100 if settings.small else 4000, mean_tokens=104).texts())
    with BulkWorker(spec=spec) as one:
        report.say("runs", f"{one.card.device}, {one.card.dtype}")
        taken = _all_but(LEFT_BYTES, spec.device)
        one.run(texts)  # raises where a text is not answered or the worker is gone
        budgets = sorted((kept.root() / "budgets").glob("*.json"))
        if spec.device != "cpu":
            report.say("remembered", [json.loads(path.read_text())["tokens"] for path in budgets])
            if not budgets:
                report.wrong("memory never ran out")
        del taken
        if spec.device != "cpu":
            torch.cuda.empty_cache()
        report.figure("after it", one.run(texts).tokens_per_s, "tok/s")


@contextmanager
def scarce(model: Any) -> Iterator[None]:
    """Little memory for this process beside what it holds; on a CPU the network says that it has none."""
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
        whole = torch.cuda.mem_get_info(model.device)[1]
        allowed = torch.cuda.memory_reserved(model.device) + LEFT_BYTES
        torch.cuda.set_per_process_memory_fraction(allowed / whole, model.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, model.device)
        return

    def refuse(_: Any, __: Any, named: dict[str, Any]) -> None:
        if named["input_ids"].numel() > _CPU_TOKENS:
            raise torch.OutOfMemoryError("more tokens than this test allows")

    hook = model.network.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _run(model: Any, computations: list[Computation], batch_tokens: int) -> tuple[dict[int, Any], int, int]:
    """Answers by number, how many failed, and the tokens that a batch may have at the end."""
    found: dict[int, Any] = {}
    failed = 0

    def emit(message: Started | Done) -> None:
        nonlocal failed
        if isinstance(message, Done):
            failed += len(message.failures)
            answered = zip(message.numbers, message.outputs, strict=True)
            found.update((number, json.loads(output)) for number, output in answered if output is not None)

    forwarder = Forwarder(model, emit, batch_tokens)
    for first in range(0, len(computations), 4096):
        forwarder.run(computations[first : first + 4096])
    return found, failed, forwarder.batching.tokens


def _all_but(left_bytes: int, device: str) -> torch.Tensor | None:
    if device == "cpu":
        return None
    free = torch.cuda.mem_get_info(torch.device(device))[0]
    return torch.empty(max(0, free - left_bytes), dtype=torch.uint8, device=device)


def _spec(settings: Settings, shape: str, batch_tokens: int = 0) -> Any:
    path = random_encoder(settings.folder / f"{shape}-memory-{batch_tokens}", shape)
    return spec_of(
        str(path), device=settings.device, dtype="auto", backend="torch", threads=1, batch_tokens=batch_tokens
    )
