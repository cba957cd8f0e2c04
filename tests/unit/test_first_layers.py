"""A network for which float32 is too large is loaded in its own dtype at once, and its first layers are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from streamer.errors import ModelError
from streamer.inference.backends import torch_model
from streamer.inference.generation import autoregressive
from streamer.inference.models import first_layers
from streamer.inference.models.adapter import open_adapter
from streamer.inference.models.device import lower
from streamer.inference.models.loading import load_config, load_network
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.machine.processors import free_memory_bytes
from tests.language_models import tiny_decoder
from tests.tiny_models import BERT, tiny
from tests.unit.tasks_kit import model_of, outputs


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder and an encoder with more layers than are checked, stored in float32."""
    folder = tmp_path_factory.mktemp("models")
    tiny_decoder(folder / "decoder", "llama")
    tiny(folder / "encoder", BERT, "ForSequenceClassification", layers=5, spread=0.1)
    return folder


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtypes in which whole networks are loaded, on a machine that has no room for float32."""
    dtypes: list[torch.dtype] = []
    monkeypatch.setattr(first_layers, "SHARE", 0)
    monkeypatch.setattr(first_layers, "LAYERS", 1)
    for module in (autoregressive, torch_model):
        monkeypatch.setattr(module, "load_network", _told(module.load_network, dtypes))
    return dtypes


def _told(load: Any, dtypes: list[torch.dtype]) -> Any:
    def loading(*arguments: Any, dtype: torch.dtype, **named: Any) -> Any:
        dtypes.append(dtype)
        return load(*arguments, dtype=dtype, **named)

    return loading


@pytest.mark.parametrize(("name", "task", "layers"), [("decoder", "scoring", 2), ("encoder", "text-classification", 5)])
def test_a_large_network_is_never_loaded_in_float32(
    models: Path, loaded: list[torch.dtype], caplog: pytest.LogCaptureFixture, name: str, task: str, layers: int
) -> None:
    """The card and the log say what was checked, and the answers are about those of float32."""
    large = model_of(models / name, task, dtype="bfloat16")
    assert loaded == [torch.bfloat16]
    assert large.card.dtype == "bfloat16"
    assert large.card.checked == f"its first 1 of {layers} layers"
    assert "more than 0% of the" in caplog.text
    assert f"only {large.card.checked} were compared with it" in caplog.text
    exact = model_of(models / name, task)
    assert (exact.card.dtype, exact.card.checked) == ("float32", "")
    key = "log_likelihood" if task == "scoring" else "score"
    (one,), (other,) = outputs(large, ["good day"]), outputs(exact, ["good day"])
    assert one[key] == pytest.approx(other[key], rel=0.1, abs=0.03)


@pytest.mark.parametrize(("name", "task"), [("decoder", "text-generation"), ("encoder", "text-classification")])
def test_layers_that_are_too_far_from_float32_are_refused(
    models: Path, loaded: list[torch.dtype], tmp_path: Path, name: str, task: str
) -> None:
    """What overflows in float16 can't be served in it, and there is no room for anything else."""
    for file in (models / name).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    for key in [key for key in weights if "layers.0.mlp.up" in key or "layer.0.intermediate.dense.weight" in key]:
        weights[key] *= 3e4 / weights[key].abs().max()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"can't be served in float16: .* away from .*name another dtype"):
        model_of(tmp_path, task, dtype="float16")


def adapter_of(path: Path, *, size: float) -> Path:
    """One for both layers of the decoder, whose matrices make numbers of about this size."""
    path.mkdir()
    fields = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["up_proj"], "task_type": "CAUSAL_LM"}
    (path / "adapter_config.json").write_text(json.dumps(fields | {"base_model_name_or_path": "decoder"}))
    torch.manual_seed(3)
    shapes, tensors = {"A": (1, 32), "B": (64, 1)}, {}
    for layer in range(2):
        for name, shape in shapes.items():
            key = f"base_model.model.model.layers.{layer}.mlp.up_proj.lora_{name}.weight"
            tensors[key] = torch.randn(shape) * size**0.5
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def test_layers_are_compared_with_the_adapter(models: Path, loaded: list[torch.dtype], tmp_path: Path) -> None:
    """One that overflows in float16 is refused for what it is, and not served unseen; a sound one is served."""

    def scoring(adapter: Path, dtype: Any) -> Any:
        spec = WorkerSpec(
            "test", "scoring", str(models / "decoder"), dtype=dtype, backend="torch", adapter=str(adapter)
        )
        return load(spec)

    sound = adapter_of(tmp_path / "sound", size=4)
    assert scoring(sound, "bfloat16").card.checked == "its first 1 of 2 layers"
    path, kind, exact, adapter = models / "decoder", AutoModelForCausalLM, torch.float32, open_adapter(str(sound))
    whole = load_network(kind, path, load_config(path), dtype=exact, task="scoring", model="m", adapter=adapter)
    layers, _ = first_layers.first_layers(kind, path, load_config(path), exact, adapter)
    named = dict(whole.named_parameters())
    assert all(torch.equal(weights, named[name]) for name, weights in layers.named_parameters())
    with pytest.raises(ModelError, match=r"its first 1 of 2 layers are .* away from float32"):
        scoring(adapter_of(tmp_path / "far", size=1e5), "float16")


def test_layers_that_can_not_be_had_by_themselves_are_refused(models: Path, loaded: list[torch.dtype]) -> None:
    """Some networks have no such thing: then nothing can be said of the dtype."""
    tiny_decoder(models / "mamba", "mamba")
    with pytest.raises(ModelError, match=r"its first layers can't be loaded by themselves.*give it more memory"):
        model_of(models / "mamba", "scoring", dtype="bfloat16")


def test_a_small_network_is_checked_as_a_whole(models: Path) -> None:
    """Where there is room, which is measured."""
    assert model_of(models / "decoder", "scoring", dtype="bfloat16").card.checked == ""
    assert first_layers.too_large(models / "decoder", torch.device("cpu")) == ""


def test_free_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    """Never more than may be used at all."""
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:      7 kB\n")
    assert free_memory_bytes(tmp_path / "meminfo") == 7 * 1024
    assert free_memory_bytes(tmp_path / "nothing") > 1 << 20


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_a_lowered_network_is_what_transformers_loads(tmp_path: Path, kind: str) -> None:
    """To the last digit: positions keep their float32, which a plain cast of all would round."""
    path = tiny_decoder(tmp_path, kind, max_tokens=512)
    loaded: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    cast: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    lower(cast, torch.bfloat16)
    ids = torch.arange(400)[None] % 90
    with torch.inference_mode():
        assert torch.equal(cast(input_ids=ids).logits, loaded(input_ids=ids).logits)
        cast.to(torch.bfloat16)
        assert not torch.equal(cast(input_ids=ids).logits, loaded(input_ids=ids).logits)
