"""Runs a task's family in this process as a worker does, and what the tests of tasks share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import DataFailure
from streamer.inference.channel import Done, Started
from streamer.inference.model import Encoded, Model
from streamer.inference.spec import DType, Overflow, WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.worker.forwarder import Computation, Forwarder

TEXTS = [
    "Angela Merkel met Tim Cook in Paris",
    "?",
    "the film was good, but the music was awful",
    "naïve café: 東京の映画 🙂",
    "die Lieferung kam pünktlich",
    " ",
    "why would anyone pay forty euros for a cable that breaks within a week? " * 6,
    "Microsoft opened an office in Zürich on Tuesday",
]
"""Of mixed lengths and scripts; the last but one is longer than the tiny models read."""

Event = str | tuple[str, str] | tuple[str, str | None, dict[str, Any]]


def model_of(
    path: Path | str, task: str, *, dtype: DType = "float32", on_overflow: Overflow = "truncate", **options: Any
) -> Model:
    """The task's family over these files."""
    spec = WorkerSpec("test", task, str(path), dtype=dtype, backend="torch", on_overflow=on_overflow, options=options)
    return load(spec)


def outcomes(model: Model, events: Sequence[Event], batch_tokens: int = 0) -> list[dict[str, Any] | DataFailure]:
    """Each event's output, or its failure; in the forward batches of a worker."""
    columns = [event if isinstance(event, tuple) else (event,) for event in events]
    texts = [one[0] for one in columns]
    pairs = [one[1] if len(one) > 1 else None for one in columns]
    params = [one[2] if len(one) > 2 else None for one in columns]
    encoded = model.encode(texts, pairs, params)
    found: dict[int, dict[str, Any] | DataFailure] = {
        number: one for number, one in enumerate(encoded) if isinstance(one, DataFailure)
    }

    def emit(message: Started | Done) -> None:
        if isinstance(message, Done):
            for index, number in enumerate(message.numbers):
                output = message.outputs[index]
                found[number] = message.failures[index] if output is None else json.loads(output)

    computations = [Computation(number, one) for number, one in enumerate(encoded) if isinstance(one, Encoded)]
    Forwarder(model, emit, batch_tokens).run(computations)
    return [found[number] for number in range(len(events))]


def outputs(model: Model, events: Sequence[Event], batch_tokens: int = 0) -> list[dict[str, Any]]:
    """Each event's output; no event may fail."""
    found = outcomes(model, events, batch_tokens)
    assert [one for one in found if isinstance(one, DataFailure)] == []
    return found  # type: ignore[return-value]


def counted_passes(model: Any) -> list[int]:
    """Grows by the rows of each pass of the network that follows."""
    seen: list[int] = []
    passing = model._pass

    def count(rows: Sequence[Any]) -> Any:
        seen.append(len(rows))
        return passing(rows)

    model._pass = count
    return seen


def reference(path: Path | str, head: str) -> tuple[Any, Any]:
    """Plain transformers' network and tokenizer, in fp32."""
    import transformers

    network = getattr(transformers, f"AutoModel{head}").from_pretrained(path).eval()
    return network, transformers.AutoTokenizer.from_pretrained(path)


def near(expected: Any, tolerance: float = 1e-4) -> Any:
    """Equal within a tolerance."""
    return pytest.approx(expected, abs=tolerance)
