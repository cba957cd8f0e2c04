"""How people embed texts in one process, and how fast this machine multiplies matrices: what `bench inference` is
held against.

As a program, `python -m streamer.bench.baselines.encoders SETTINGS`, it serves turns in a process of its own: what a
worker asks of its process, of the memory allocator for one, must not become theirs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from streamer.bench.baselines.sentence_openvino import serve_turns
from streamer.bench.baselines.settings import SENTENCE, SORTED

Vectors = npt.NDArray[np.float32]
BATCH = 32


class PlainTransformers:
    """Batches of 32 texts through AutoModel, padded to the longest, mean of the tokens, normalised."""

    def __init__(self, model: Path, dtype: str, max_tokens: int, *, sort: bool) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
        network = AutoModel.from_pretrained(model, local_files_only=True, dtype=getattr(torch, dtype))
        self._network = network.eval()
        self._max_tokens = max_tokens
        self._sort = sort

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions), in the order of the texts."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index])) if self._sort else range(len(texts))
        ordered = [texts[index] for index in order]
        batches = [self._batch(ordered[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
        vectors = np.empty((len(texts), batches[0].shape[1]), np.float32)
        vectors[list(order)] = np.concatenate(batches)
        return vectors

    @torch.inference_mode()
    def _batch(self, texts: list[str]) -> Vectors:
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        hidden = self._network(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        vectors: Vectors = torch.nn.functional.normalize(mean, dim=-1).float().numpy()
        return vectors


class SentenceTransformers:
    """`encode`, which sorts by length, in batches of 32."""

    def __init__(self, model: Path, dtype: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(
            str(model), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)}, local_files_only=True
        )

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions)."""
        vectors = self._model.encode(
            list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_tensor=True
        )
        found: Vectors = vectors.float().numpy()
        return found


def main(settings: dict[str, Any]) -> None:
    """Serve turns on one thread; `settings` are the model's path, the dtype, `max_tokens` and the names of the ways."""
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(1)
    path, dtype, max_tokens = Path(settings["model"]), settings["dtype"], settings["max_tokens"]
    serve_turns({name: make(name, path, dtype, max_tokens).encode for name in settings["ways"]}, answers)


def make(way: str, path: Path, dtype: str, max_tokens: int) -> PlainTransformers | SentenceTransformers:
    """The one that is called `way`."""
    if way == SENTENCE:
        return SentenceTransformers(path, dtype)
    return PlainTransformers(path, dtype, max_tokens, sort=way == SORTED)


def matrix_flops(
    shapes: Sequence[tuple[int, int]], rows: int, dtype: str, seconds: float, device: str = "cpu"
) -> float:
    """FLOP/s of multiplying `rows` rows by matrices of these (inputs, outputs) in turn, the fastest turn."""
    kind = getattr(torch, dtype)
    inputs = [torch.randn(rows, size, dtype=kind, device=device) for size, _ in shapes]
    weights = [torch.randn(outputs, size, dtype=kind, device=device) for size, outputs in shapes]
    ways = [lambda: [one @ two.T for one, two in zip(inputs, weights, strict=True)]]
    if device == "cpu" and torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        laid = [torch.ops.mkldnn._reorder_linear_weight(weight, rows) for weight in weights]
        multiply = torch.ops.mkldnn._linear_pointwise
        ways.append(lambda: [multiply(one, two, None, "none", [], "") for one, two in zip(inputs, laid, strict=True)])
    best = float("inf")
    end = time.perf_counter() + seconds
    with torch.inference_mode():
        while time.perf_counter() < end:
            best = min(best, *(_seconds(way, device) for way in ways))
    return 2 * rows * sum(size * outputs for size, outputs in shapes) / best


def _seconds(work: Callable[[], object], device: str) -> float:
    """Of CPU time on a CPU, where other programs may take the core away; of wall time on a GPU."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
