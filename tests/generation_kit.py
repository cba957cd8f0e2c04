"""A language model run by the worker's own loop in this process, and plain transformers code to hold it against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from streamer.errors import DataFailure
from streamer.inference.channel import Done, Holding, Started
from streamer.inference.generation.generator import Generator
from streamer.inference.model import Encoded
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.tasks.text_generation import TextGeneration
from streamer.inference.worker.forwarder import Computation
from streamer.inference.worker.worker import Pool

Params = dict[str, Any] | None
Output = dict[str, Any] | DataFailure


@contextmanager
def generation(path: Path, **options: Any) -> Iterator[TextGeneration]:
    """A text-generation model in fp32; its threads end with the block."""
    model = load(WorkerSpec("test", "text-generation", str(path), dtype="float32", options=options))
    assert isinstance(model, TextGeneration)
    try:
        yield model
    finally:
        model.close()


TRACE = bytes(range(24))
"""That of the micro-batch which all is generated for."""


class Loop:
    """A worker's loop over a model. `said` holds all that it would put on the wire, in order."""

    def __init__(self, model: TextGeneration) -> None:
        self.model = model
        self.said: list[Started | Done] = []
        self.outputs: dict[int, Output] = {}
        self._wanted = 0
        self._pool = Pool()
        self._generator = Generator(model, self._emit, self._pool)

    def run(self, texts: Sequence[str], params: Sequence[Params] | None = None, *, alone: bool = False) -> list[Output]:
        """All at once; returns when all are answered."""
        encoded = self.model.encode(texts, None, params)
        self.outputs = {index: one for index, one in enumerate(encoded) if isinstance(one, DataFailure)}
        computations = [
            Computation(index, one, [TRACE]) for index, one in enumerate(encoded) if isinstance(one, Encoded)
        ]
        self._wanted = len(texts)
        if computations:
            if alone:
                self._pool.put_suspects(iter(computations))
            else:
                self._pool.put(computations, tokens=0)
            self._generator.run()
            self._pool = self._generator._pool = Pool()
        return [self.outputs[index] for index in range(len(texts))]

    @property
    def answered(self) -> list[int]:
        """The numbers in the order of their answers."""
        return [number for message in self.said if isinstance(message, Done) for number in message.numbers]

    def _emit(self, message: Started | Done | Holding) -> None:
        assert not isinstance(message, Holding)
        self.said.append(message)
        if isinstance(message, Done):
            for index, (number, output) in enumerate(zip(message.numbers, message.outputs, strict=True)):
                self.outputs[number] = message.failures[index] if output is None else json.loads(output)
            if len(self.outputs) == self._wanted:
                self._pool.stop()


class Plain:
    """transformers as its documentation shows it, one text at a time."""

    def __init__(self, path: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self.network: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        self.network.eval()  # type: ignore[no-untyped-call]

    def ids(self, prompt: str | list[dict[str, str]], most: int = 1 << 20) -> torch.Tensor:
        """A text's ids, or a conversation's; of more than `most` the last ones."""
        if isinstance(prompt, str):
            ids = self.tokenizer(prompt, return_tensors="pt").input_ids
        else:
            ids = self.tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
        kept: torch.Tensor = ids[:, -most:]
        return kept

    def generate(self, ids: torch.Tensor, *, seed: int | None = None, **options: Any) -> dict[str, Any]:
        """What the pipeline must answer for these ids."""
        if seed is not None:
            torch.manual_seed(seed)
        with torch.inference_mode():
            row = self.network.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=seed is not None, **options
            )
        tokens = row[0, ids.shape[1] :].tolist()
        return {
            "text": self.tokenizer.decode(tokens, skip_special_tokens=True),
            "finish_reason": "stop" if tokens[-1] == self.tokenizer.eos_token_id else "length",
            "prompt_tokens": ids.shape[1],
            "completion_tokens": len(tokens),
        }
