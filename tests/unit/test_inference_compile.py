"""torch.compile by option: taken when it agrees, left with a word when it does not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamer.inference.model import Encoded
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from tests.models import tiny_encoder

TEXTS = ["a film", "the music was great but the plot was not very good", "love it"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("compile"))


def served(path: Path, **fields: Any) -> Any:
    return load(WorkerSpec("p", "embedding", str(path), dtype="float32", backend="auto", **fields))


def numbers(model: Any) -> list[Any]:
    encoded = [one for one in model.encode(TEXTS, None, None) if isinstance(one, Encoded)]
    return list(model.compute([row for one in encoded for row in one.content.rows]))


def test_a_compiled_network_serves_where_it_agrees(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are the plain network's. The backend here traces the network without generating code."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled = served(encoder, compile=True)
    assert isinstance(compiled.network, torch._dynamo.OptimizedModule)
    assert compiled.card.backend == "torch"
    for own, expected in zip(numbers(compiled), numbers(served(encoder)), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-5)


def fails(network: Any, **_: Any) -> Any:
    raise RuntimeError("no C++ compiler here")


def wrong(network: Any, **_: Any) -> Any:
    def call(**given: Any) -> Any:
        output = network(**given)
        output.last_hidden_state = torch.randn_like(output.last_hidden_state)
        return output

    return call


@pytest.mark.parametrize(
    ("compiler", "words"), [(lambda network, **_: partial(fails, network), "RuntimeError"), (wrong, "too far")]
)
def test_torch_goes_on_without_a_compiler(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiler: Any, words: str
) -> None:
    """One that fails, or computes something else, costs speed and a warning."""
    monkeypatch.setattr(torch, "compile", compiler)
    model = served(encoder, compile=True)
    assert isinstance(model.network, torch.nn.Module)
    assert "runs without torch.compile" in caplog.text
    assert words in caplog.text
