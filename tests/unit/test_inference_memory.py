"""Out of memory: nothing is lost, nobody is blamed, and the lower budget is remembered."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from streamer.core.pipeline.protocol import ModelCard
from streamer.inference.channel import Done, Started
from streamer.inference.model import Encoded
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.worker.forwarder import Computation, Forwarder
from streamer.inference.worker.memory_budget import REMEMBERED_S, MemoryBudget
from tests.models import tiny_encoder

TEXTS = ["a film", "the music was great but the plot was not very good", "love it", "awful"] * 40
ROOM = 300  # tokens that the device of these tests has memory for
WITHIN_S = 1.0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("memory"))


def small_device(path: Path, message: str | None) -> Any:
    """A model whose network runs out of memory above ROOM padded tokens, as torch does on CUDA, or with `message`."""
    model: Any = load(WorkerSpec("p", "embedding", str(path), dtype="float32", backend="torch"))

    def allocate(module: torch.nn.Module, args: tuple[Any, ...], given: dict[str, torch.Tensor]) -> None:
        if given["input_ids"].numel() > ROOM:
            raise torch.OutOfMemoryError("CUDA out of memory") if message is None else RuntimeError(message)

    model.network.register_forward_pre_hook(allocate, with_kwargs=True)
    return model


def run(model: Any) -> tuple[list[Started | Done], Forwarder]:
    sent: list[Started | Done] = []
    forwarder = Forwarder(model, sent.append)
    encoded = [one for one in model.encode(TEXTS, None, None) if isinstance(one, Encoded)]
    forwarder.run([Computation(number, one) for number, one in enumerate(encoded)])
    return sent, forwarder


@pytest.mark.case(28)
@pytest.mark.parametrize(
    "message",
    [
        None,
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",
        "Exception from src/inference: std::bad_alloc",
    ],
)
def test_every_text_is_answered_when_memory_runs_out(encoder: Path, message: str | None) -> None:
    """No text is lost or blamed, the next batch comes at once, and it fits."""
    model = small_device(encoder, message)
    began = time.monotonic()
    sent, forwarder = run(model)
    assert time.monotonic() - began < WITHIN_S * len([one for one in sent if isinstance(one, Started)])
    done = [one for one in sent if isinstance(one, Done)]
    assert sorted(number for one in done for number in one.numbers) == list(range(len(TEXTS)))
    assert not any(one.failures for one in done)
    assert forwarder.batching.tokens <= ROOM


def test_the_next_worker_starts_with_what_fitted(encoder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The operator is told once a batch, and a new worker of the same model runs out no more."""
    _, first = run(small_device(encoder, None))
    assert f"at most {first.batching.tokens} tokens" in caplog.text
    caplog.clear()
    sent, second = run(small_device(encoder, None))
    assert second.batching.tokens == first.batching.tokens
    starts = [number for one in sent if isinstance(one, Started) for number in one.numbers]
    assert sorted(starts) == list(range(len(TEXTS)))  # no text ran twice
    assert not caplog.records


def test_a_budget_is_of_one_model_device_and_dtype() -> None:
    """What one lacks memory for says nothing about another."""
    card = ModelCard("m", "digest", "embedding", "bfloat16", "torch", "cuda:0")
    MemoryBudget(card).write(512)
    assert MemoryBudget(card).read() == 512
    others = [
        ModelCard("m", "digest", "embedding", "float32", "torch", "cuda:0"),
        ModelCard("m", "digest", "embedding", "bfloat16", "torch", "cuda:1"),
        ModelCard("m", "another", "embedding", "bfloat16", "torch", "cuda:0"),
    ]
    assert [MemoryBudget(other).read() for other in others] == [None, None, None]


@pytest.fixture
def budget() -> Iterator[MemoryBudget]:
    one = MemoryBudget(ModelCard("m", "digest", "embedding", "float32", "torch"))
    one.write(512)
    yield one


def test_a_budget_is_forgotten_after_a_week(budget: MemoryBudget) -> None:
    """Memory may have been short for a reason that is gone."""
    past = time.time() - REMEMBERED_S - 60
    os.utime(budget.path, (past, past))
    assert budget.read() is None


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"tokens": "many"}', b'{"tokens":0,"model":"","device":"","dtype":""}']
)
def test_a_damaged_file_is_no_budget(budget: MemoryBudget, content: bytes) -> None:
    """The worker starts as if nothing had been remembered."""
    budget.path.write_bytes(content)
    assert budget.read() is None


@pytest.mark.case(42)
def test_a_cache_that_cannot_be_written_is_no_failure(kept_root: Path) -> None:
    """The worker goes on with the lower budget and says that it is not remembered."""
    kept_root.write_text("a file where the directory should be")
    one = MemoryBudget(ModelCard("m", "digest", "embedding", "float32", "torch"))
    one.write(512)
    assert one.read() is None
