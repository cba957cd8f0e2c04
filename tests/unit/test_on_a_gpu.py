"""What only a GPU can show. `streamer bench device --out` runs this file, without the fixtures of conftest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamer.inference.backends.cuda_graphs import CudaRecorder, Graphs
from streamer.inference.channel import Done, Started
from streamer.inference.model import Encoded
from streamer.inference.models.tokenizer import Row
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.worker.forwarder import Computation, Forwarder
from tests.models import tiny_encoder
from tests.tiny_models import BERT, MODERNBERT, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]


@pytest.fixture(autouse=True)
def kept_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test finds out about a model is no other's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))


def classifier(path: Path, architecture: str, dtype: Any) -> Any:
    files = path / architecture
    if not files.exists():
        tiny(files, architecture, "ForSequenceClassification", spread=0.12, hidden_size=128)
    return load(WorkerSpec("test", "text-classification", str(files), device="cuda:0", dtype=dtype))


def rows(*lengths: int, seed: int = 0) -> list[Row]:
    draw = np.random.default_rng(seed)
    return [Row(draw.integers(5, 60, length).tolist(), None) for length in lengths]


def test_memory_of_a_real_device_runs_out(tmp_path: Path) -> None:
    """With a sliver of the GPU's memory a large window is still answered whole."""
    encoder = tiny_encoder(tmp_path / "encoder")
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        model: Any = load(WorkerSpec("p", "embedding", str(encoder), device="cuda:0"))
        sent: list[Started | Done] = []
        encoded = [one for one in model.encode(TEXTS * 2000, None, None) if isinstance(one, Encoded)]
        Forwarder(model, sent.append, 1 << 30).run([Computation(n, one) for n, one in enumerate(encoded)])
        done = [one for one in sent if isinstance(one, Done)]
        assert sum(len(one.numbers) for one in done) == len(encoded)
        assert not any(one.failures for one in done)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, MODERNBERT])
def test_a_real_gpu_runs_packed(architecture: str, tmp_path: Path) -> None:
    """By itself in half precision, and its numbers are those of float32."""
    packed, plain = (classifier(tmp_path, architecture, dtype) for dtype in ("bfloat16", "float32"))
    assert packed._packed is not None
    assert packed.card.dtype == "bfloat16"
    assert plain._packed is None
    given = rows(9, 1, 30, 48, 2)
    for own, expected in zip(packed._pass(given), plain._pass(given), strict=True):
        assert plain.distance(own, expected) <= packed.tolerance


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, MODERNBERT])
def test_a_real_gpu_replays_what_it_computes(architecture: str, tmp_path: Path) -> None:
    """Passes of many shapes one after the other, several through one recording, each twice."""
    model = classifier(tmp_path, architecture, "bfloat16")
    passes = [rows(*one, seed=seed) for seed, one in enumerate([(9, 5, 3), (30,), (2, 14, 2), (48, 1), (7, 7), (1,)])]
    model._packed.graphs = None
    expected = [model._pass(one) for one in passes]
    model._packed.graphs = graphs = Graphs(model._packed.encode, CudaRecorder(model.device))
    graphs.kept.after = 0
    for given, known in [*zip(passes, expected, strict=True)] * 2:
        for own, plain in zip(model._pass(given), known, strict=True):
            assert model.distance(own, plain) <= model.tolerance
    assert graphs.failed == ""
    assert graphs.replayed == 2 * len(passes)
