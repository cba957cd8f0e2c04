"""Quantised checkpoints say what their weights say once they are plain; the rest is refused by file and field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from streamer import extras
from streamer.errors import MissingExtraError, ModelError
from streamer.inference.models import first_layers, reading
from streamer.inference.models.inspect import look
from streamer.inference.models.loading import load_config, load_network
from streamer.inference.models.presence import require_libraries
from streamer.inference.models.safety import used_files
from tests.language_models import edit_json, tiny_decoder
from tests.unit.tasks_kit import model_of, outputs

_GROUP = 16
_EXPERTS = ("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight", "_moe.gate.weight")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with plain weights."""
    return tiny_decoder(tmp_path_factory.mktemp("models") / "plain", "llama")


def quantise(
    plain: Path,
    path: Path,
    fields: dict[str, Any],
    change: Callable[[str, torch.Tensor], dict[str, torch.Tensor]],
    layers: tuple[str, ...] = ("_proj.weight",),
) -> Path:
    """A copy of a checkpoint in which each linear layer's weight is what `change` makes of it."""
    shutil.copytree(plain, path)
    file, found = path / "model.safetensors", dict[str, torch.Tensor]()
    for name, weight in load_file(file).items():
        found |= change(name, weight) if name.endswith(layers) else {name: weight}
    save_file({name: one.contiguous() for name, one in found.items()}, file, {"format": "pt"})
    edit_json(path / "config.json", lambda config: config | ({"quantization_config": fields} if fields else {}))
    return path


def _scales(weight: torch.Tensor, most: float) -> torch.Tensor:
    """(rows, groups) the number that one step stands for."""
    return weight.view(len(weight), -1, _GROUP).abs().amax(dim=2) / most


def _steps(weight: torch.Tensor, most: float) -> torch.Tensor:
    return weight / _scales(weight, most).repeat_interleave(_GROUP, dim=1)


def fp8(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """In float8, with a scale for each row of a group."""
    return {name: _steps(weight, 448).to(torch.float8_e4m3fn), f"{name}_scale_inv": _scales(weight, 448)}


def four_bits(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Eight numbers in a word of 32 bits, the first in its lowest."""
    levels = (_steps(weight, 7).round() + 8).long().view(len(weight), -1, 8)
    words = torch.stack([levels[:, :, place] << 4 * place for place in range(8)]).sum(dim=0)
    signed = torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)
    shape = torch.tensor(weight.shape)
    return {f"{name}_packed": signed, f"{name}_scale": _scales(weight, 7), f"{name}_shape": shape}


def rounded(name: str, weight: torch.Tensor, *, eight: bool) -> dict[str, torch.Tensor]:
    """The weight that quantised numbers stand for."""
    most = 448 if eight else 7
    steps = _steps(weight, most)
    steps = steps.to(torch.float8_e4m3fn).float() if eight else steps.round()
    return {name: steps * _scales(weight, most).repeat_interleave(_GROUP, dim=1)}


_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [1, _GROUP], "fmt": "e4m3"}
_WEIGHTS = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": _GROUP, "symmetric": True}
_FOUR = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": _WEIGHTS}},
}


def said(network: Any) -> list[float]:
    """The logits of known ids."""
    with torch.inference_mode():
        found: list[float] = network(input_ids=torch.tensor([[5, 9, 70, 3, 30, 12]])).logits.float().flatten().tolist()
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["fp8", "compressed-tensors"])
def test_quantised_weights_are_what_they_stand_for(plain: Path, tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    """To the last digit, in each dtype: the whole network, and its first layers alone."""
    pytest.importorskip("accelerate")
    pytest.importorskip("compressed_tensors")
    eight = kind == "fp8"
    path = quantise(plain, tmp_path / "quantised", _FP8 if eight else _FOUR, fp8 if eight else four_bits)
    reference = quantise(plain, tmp_path / "rounded", {}, lambda name, weight: rounded(name, weight, eight=eight))
    config, known = load_config(path), load_config(reference)
    network = load_network(AutoModelForCausalLM, path, config, dtype=dtype, task="scoring", model="m")
    expected = load_network(AutoModelForCausalLM, reference, known, dtype=dtype, task="scoring", model="m")
    assert said(network) == said(expected)
    found, _ = first_layers.first_layers(AutoModelForCausalLM, path, config, dtype)
    assert said(found) == said(expected)
    assert {type(module) for module in network.modules()} == {type(module) for module in expected.modules()}


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes_weights_are_what_they_stand_for(plain: Path, tmp_path: Path, bits: int) -> None:
    """As the library itself makes them plain; it must not have run before, which lays them out anew. A pipeline's
    answers are those of a checkpoint of the plain ones."""
    pytest.importorskip("accelerate")
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    asked = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4"
    )
    path, reference = (Path(shutil.copytree(plain, tmp_path / name)) for name in ("quantised", "plain"))
    cpu: Any = {"device_map": {"": "cpu"}}
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=asked, dtype=torch.float32, **cpu).save_pretrained(
        path
    )
    unpacked = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **cpu).dequantize()  # type: ignore[no-untyped-call]
    weights = load_file(plain / "model.safetensors")
    known = {name: own.contiguous() for name, own in unpacked.state_dict().items() if name in weights}
    save_file(known, reference / "model.safetensors", {"format": "pt"})
    text = "What a fine day"
    answered, expected, before = (outputs(model_of(one, "scoring"), [text]) for one in (path, reference, plain))
    assert answered == expected
    assert answered != before
    assert "bitsandbytes=" in model_of(path, "scoring").card.implementation
    assert look(str(path)).parameters >= look(str(plain)).parameters


def test_a_missing_library_is_named(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is loaded, with the command that installs it."""
    path = quantise(plain, tmp_path / "quantised", _FP8, fp8)
    monkeypatch.setattr(extras, "_is_installed", lambda library: library != "accelerate")
    with pytest.raises(MissingExtraError, match=r"whose weights are quantised, needs the extra quantized.*accelerate"):
        require_libraries(str(path))
    with pytest.raises(MissingExtraError, match="needs the extra quantized"):
        model_of(path, "scoring")
    assert any("quantised by fp8" in warning for warning in look(str(path)).warnings)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quantised by gptq, and only those by bitsandbytes, fp8"),
        ({"bits": 4}, "quantised by an unnamed method"),
        ({"quant_method": "bitsandbytes"}, "neither load_in_4bit nor load_in_8bit alone"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "of_later": 1}, "has of_later, which is not served"),
        (_FP8 | {"activation_scheme": "static"}, "activation_scheme = 'static'"),
        (_FP8 | {"fmt": "e5m2"}, "fmt = 'e5m2'"),
        (_FOUR | {"format": "marlin-24"}, "format = 'marlin-24'"),
        (_FOUR | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config.format = 'sparse-24-bitmask'"),
        (_FOUR | {"kv_cache_scheme": {"num_bits": 8}}, "has kv_cache_scheme"),
        (_FOUR | {"transform_config": {"config_groups": {"a": 1}}}, "has transform_config"),
        (
            _FOUR
            | {"config_groups": {"g": {"targets": ["Linear"], "weights": _WEIGHTS, "input_activations": {"a": 1}}}},
            "config_groups.g.input_activations: it rounds activations, too",
        ),
    ],
)
def test_what_can_not_be_made_plain_is_refused(plain: Path, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    """With the file, the field, and what to take instead."""
    path = Path(shutil.copytree(plain, tmp_path / "model"))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": fields}))
    with pytest.raises(ModelError) as caught:
        used_files(path)
    assert words in str(caught.value)
    assert "config.json" in str(caught.value)
    assert "take the model's original weights" in str(caught.value)


@pytest.mark.parametrize("kind", ["fp8", "compressed-tensors", "bitsandbytes"])
def test_experts_are_made_plain_or_refused(tmp_path: Path, kind: str) -> None:
    """With the file, the field and a tensor: these libraries do not follow transformers, which merges experts."""
    pytest.importorskip("accelerate")
    pytest.importorskip("compressed_tensors")
    functional = pytest.importorskip("bitsandbytes.functional")

    def nf4(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        packed, state = functional.quantize_4bit(weight, quant_type="nf4")
        parts = state.as_dict(packed=True).items()
        return {name: packed.reshape(-1, 1)} | {f"{name}.{part}": tensor for part, tensor in parts}

    nf4_fields = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    ways: dict[str, tuple[dict[str, Any], Any]] = {
        "fp8": (_FP8, fp8),
        "compressed-tensors": (_FOUR, four_bits),
        "bitsandbytes": (nf4_fields, nf4),
    }
    fields, change = ways[kind]
    plain = tiny_decoder(tmp_path / "plain", "mixtral")
    path = quantise(plain, tmp_path / "quantised", fields, change, _EXPERTS)
    reference = quantise(
        plain, tmp_path / "rounded", {}, lambda name, weight: rounded(name, weight, eight=True), _EXPERTS
    )

    def load(path: Path) -> Any:
        return load_network(
            AutoModelForCausalLM, path, load_config(path), dtype=torch.float32, task="scoring", model="m"
        )

    if kind == "fp8":
        assert said(load(path)) == said(load(reference))
        return
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert "config.json: quantization_config: a network of experts (model.layers.0." in message
    assert f"of these weights by {kind}; take one by fp8, or the model's original weights" in message


def test_a_networks_own_kinds_of_linear_layers_stay() -> None:
    """A router that was never quantised is called as its network calls it."""
    fields = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2}
    kind: Any = AutoModelForCausalLM
    network = kind.from_config(AutoConfig.for_model("phimoe", **fields, **heads)).eval()
    ids = torch.arange(8)[None]
    with torch.inference_mode():
        expected = network(input_ids=ids).logits
        assert torch.equal(reading._plain(network, "fp8", torch.float32, "model")(input_ids=ids).logits, expected)
