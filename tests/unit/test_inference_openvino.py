"""OpenVINO in the place of torch: the same answers, kept conversions, and torch where it does not serve."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamer.errors import ModelError
from streamer.inference.backends import openvino_network
from streamer.inference.backends.openvino_network import MODEL_FILE, REFUSED_FILE
from streamer.inference.model import Encoded
from streamer.inference.models import checks, kept
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from tests.models import tiny_bert, tiny_encoder

# Not importorskip: importing it reports to its maker, unless our own code does.
pytestmark = pytest.mark.skipif(not checks.has_openvino(), reason="needs the extra cpu")

TEXTS = ["a film", "the music was great but the plot was not very good", "love it", "", "été 映 画!", "awful " * 90]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_bert(folder / "classifier")
    tiny_encoder(folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def kept_root(converted: Path) -> Path:
    """The module's tests share what was converted."""
    return converted


def served(path: Path, task: str, **fields: Any) -> Any:
    return load(WorkerSpec("p", task, str(path), **{"dtype": "float32", "backend": "openvino"} | fields))


def numbers(model: Any, pairs: list[str | None] | None = None) -> list[Any]:
    """What the network makes of the texts, all in one batch."""
    encoded = [one for one in model.encode(TEXTS, pairs, None) if isinstance(one, Encoded)]
    assert len(encoded) == len(TEXTS)
    return list(model.compute([row for one in encoded for row in one.content.rows]))


@pytest.mark.parametrize(("task", "name"), [("embedding", "encoder"), ("text-classification", "classifier")])
def test_it_answers_as_torch_does(models: Path, task: str, name: str) -> None:
    """Padded, unpadded, empty and over-long texts give torch's numbers in fp32, and the card says who made them."""
    ours = served(models / name, task)
    assert ours.card.backend == "openvino"
    plain = served(models / name, task, backend="torch")
    assert plain.card.backend == "torch"
    for own, expected in zip(numbers(ours), numbers(plain), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-5)


def test_pairs_have_their_types(models: Path) -> None:
    """The second text of a pair is told from the first."""
    pairs: list[str | None] = [None, "great", "awful", "good", None, "the end"]
    ours, plain = (served(models / "classifier", "text-classification", backend=one) for one in ("openvino", "torch"))
    for own, expected in zip(numbers(ours, pairs), numbers(plain, pairs), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-5)


def test_bfloat16_stays_within_its_tolerance(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same converted model is opened in another precision and held to fp32; where the processor can't, torch
    computes in it."""
    monkeypatch.setattr(checks, "OPENVINO_PARAMETERS", 0)
    ours = served(models / "encoder", "embedding", dtype="bfloat16", backend="auto")
    assert ours.card.dtype == "bfloat16"
    plain = served(models / "encoder", "embedding", backend="torch")
    distances = [ours.distance(own, expected) for own, expected in zip(numbers(ours), numbers(plain), strict=True)]
    assert 0 < max(distances) <= ours.tolerance


def test_what_does_not_run_in_bfloat16_still_runs_in_float32(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A processor that refuses one precision says nothing of the other, now or at the next start."""
    monkeypatch.setattr(kept, "root", lambda: tmp_path)
    monkeypatch.setattr(openvino_network, "_capabilities", lambda: ["BF16", "FP32"])
    plain = openvino_network._compile

    def compile_(model: Any, dtype: torch.dtype, threads: int) -> Any:
        if dtype is torch.bfloat16:
            raise RuntimeError("no such primitive here")
        return plain(model, dtype, threads)

    monkeypatch.setattr(openvino_network, "_compile", compile_)
    with pytest.raises(ModelError, match=r"does not run here \(RuntimeError\)"):
        served(models / "encoder", "embedding", dtype="bfloat16")
    assert served(models / "encoder", "embedding").card.backend == "openvino"


def test_a_model_is_converted_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second worker opens what the first one kept."""
    served(models / "encoder", "embedding")
    assert list((kept.root() / "openvino").glob(f"*/{MODEL_FILE}"))

    def convert(*_: Any) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(openvino_network, "_convert", convert)
    assert served(models / "encoder", "embedding").card.backend == "openvino"


class Unconvertible(torch.nn.Module):
    """Eigenvalues are not among OpenVINO's operations."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        square = torch.einsum("ni,nj->nij", input_ids.float(), input_ids.float())
        return {"last_hidden_state": torch.linalg.eigvals(square).abs()}


def test_a_conversion_that_fails_hushes_nobody() -> None:
    """OpenVINO would leave all logs of the process at the level of errors."""
    filters = logging.root.filters[:]
    with pytest.raises(Exception, match=r"eigvals|convert"):
        openvino_network._convert(Unconvertible(), False, "added")
    assert logging.root.level == logging.WARNING
    assert logging.root.filters == filters


def test_numbers_that_differ_are_left(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A conversion that computes something else never serves: auto takes torch, and a demand is refused."""
    monkeypatch.setattr(kept, "root", lambda: tmp_path)
    monkeypatch.setattr(checks, "OPENVINO_PARAMETERS", 0)
    plain = openvino_network.OpenVinoNetwork.__call__

    def wrong(*given: Any, **named: Any) -> Any:
        found = plain(*given, **named)
        found.last_hidden_state += torch.randn_like(found.last_hidden_state)
        return found

    monkeypatch.setattr(openvino_network.OpenVinoNetwork, "__call__", wrong)
    assert served(models / "encoder", "embedding", backend="auto").card.backend == "torch"
    assert list((tmp_path / "openvino").glob(f"*/{REFUSED_FILE}"))
    with pytest.raises(ModelError, match="too far from torch's"):
        served(models / "encoder", "embedding")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"compile": True}, "compile = true is torch's"),
        ({"dtype": "float16"}, "does not compute in float16"),
    ],
)
def test_a_demand_that_does_not_fit_is_refused(models: Path, fields: dict[str, Any], words: str) -> None:
    """The message says what stands against it."""
    with pytest.raises(ModelError, match=words):
        served(models / "encoder", "embedding", **fields)


def test_a_demand_without_the_extra_names_it(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install; auto goes on without."""
    monkeypatch.setattr(checks, "has_openvino", lambda: False)
    with pytest.raises(ModelError, match=r"-m pip install .*\[cpu\]"):
        served(models / "encoder", "embedding")
    assert served(models / "encoder", "embedding", backend="auto").card.backend == "torch"


def test_auto_leaves_small_networks_to_torch(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is converted by itself is worth converting."""
    assert served(models / "encoder", "embedding", backend="auto").card.backend == "torch"
    monkeypatch.setattr(checks, "OPENVINO_PARAMETERS", 0)
    assert served(models / "encoder", "embedding", backend="auto").card.backend == "openvino"


def test_nothing_is_reported_to_openvinos_maker(models: Path) -> None:
    """Its telemetry, which sends at import, is a stub here."""
    served(models / "encoder", "embedding")
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__.endswith("telemetry_stub")


def test_a_cache_that_cannot_be_written_costs_only_time(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The conversion serves, and the log says that it is not kept."""
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setattr(kept, "root", lambda: tmp_path / "file")
    assert served(models / "encoder", "embedding").card.backend == "openvino"
    assert "the converted model is not kept" in caplog.text


@pytest.mark.parametrize("contents", [b"", b"<net>", b"<?xml version='1.0'?><net name='x' version='11'/>"])
def test_a_damaged_conversion_is_made_again(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, contents: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What was kept to save time never ends a start."""
    monkeypatch.setattr(kept, "root", lambda: tmp_path)
    served(models / "encoder", "embedding")
    (file,) = (tmp_path / "openvino").glob(f"*/{MODEL_FILE}")
    file.write_bytes(contents)
    assert served(models / "encoder", "embedding").card.backend == "openvino"
    assert "it is converted again" in caplog.text
    caplog.clear()
    assert served(models / "encoder", "embedding").card.backend == "openvino"
    assert "it is converted again" not in caplog.text


def test_a_conversion_of_another_model_is_made_again(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Weights that lie in the wrong folder give other numbers: they are not used, and do not stay."""
    monkeypatch.setattr(kept, "root", lambda: tmp_path)
    served(tiny_encoder(tmp_path / "other", seed=1), "embedding")
    (other,) = (tmp_path / "openvino").iterdir()
    kept_for_other = other.rename(tmp_path / "set aside")
    served(models / "encoder", "embedding")
    (own,) = (tmp_path / "openvino").iterdir()
    shutil.rmtree(own)
    kept_for_other.rename(own)
    ours, plain = (served(models / "encoder", "embedding", backend=one) for one in ("openvino", "torch"))
    for found, expected in zip(numbers(ours), numbers(plain), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_full_disk_costs_only_time(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever OpenVINO raises while it writes."""
    monkeypatch.setattr(kept, "root", lambda: tmp_path)

    def save(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't write the weights")

    monkeypatch.setattr(openvino_network._openvino(), "save_model", save)
    assert served(models / "encoder", "embedding").card.backend == "openvino"
    assert "the converted model is not kept: RuntimeError" in caplog.text
    assert not list((tmp_path / "openvino").iterdir())
