"""Merges a LoRA adapter into its network: for each layer W + scale * B @ A, in float32.

Each tensor of the adapter has its place, and each place that the adapter's configuration names has its tensors; else
it is refused. What peft trained apart stays apart: of weights that are tied only the one that was trained changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from streamer.errors import ModelError
from streamer.inference.models.adapter import PREFIX, WEIGHTS, Adapter
from streamer.inference.models.formats import ADAPTER
from streamer.inference.models.own_pages import own_tensors

_PAIRS: Final = {
    ".lora_A.weight": (0, False),
    ".lora_B.weight": (1, False),
    ".lora_embedding_A": (0, True),
    ".lora_embedding_B": (1, True),
}
"""How the names of LoRA's two matrices end; and whether they are an embedding's."""
# Named by peft itself, whether a network has them or not.
_HEADS: Final = frozenset({"classifier", "score", "qa_outputs"})
_WRAPPED: Final = (".original_module.", ".modules_to_save.")
_Pair = tuple[torch.Tensor, torch.Tensor]


def whole_weights(names: Iterable[str]) -> dict[str, str]:
    """The parameters that an adapter brings whole, each with its name in the adapter. Where peft saves all biases, it
    saves those of a trained head two times more, as that wraps them: these are left out."""
    return {
        name.replace(".base_layer.", "."): name
        for name in names
        if not name.endswith(tuple(_PAIRS)) and not any(part in name for part in _WRAPPED)
    }


def merge(network: nn.Module, adapter: Adapter, field_of: Callable[[str], str], *, cut: bool = False) -> None:
    """Change the network for good. `field_of` names the field of config.json that shapes a parameter. With `cut` the
    network is the first layers of one, and what is of others is left out. Raises `ModelError`."""
    file = adapter.path / WEIGHTS
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in own_tensors(load_file(file)).items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{file}: {name} has NaN or infinity: its training diverged, or the file is damaged")
    modules = {name: module for name, module in network.named_modules() if name}
    if cut:
        tensors = {name: tensor for name, tensor in tensors.items() if _layer(name) in modules}
    targets = {name for name in modules if adapter.config.targets(name)}
    pairs = _pairs(adapter, tensors, modules, targets)
    whole = {name: tensors[own] for name, own in whole_weights(tensors).items()}
    _refuse_whole(adapter, set(whole), network, modules, targets, cut=cut)
    for name, tensor in whole.items():
        owner, _, last = name.rpartition(".")
        there = getattr(modules[owner], last)
        if there.shape != tensor.shape:
            raise ModelError(
                f"{file}: {name} has the shape {_shape(tensor)}, and config.json of the model makes it {_shape(there)}"
                f"{field_of(name)}"
            )
        _put(modules[owner], last, tensor, there.dtype)
    for name, (down, up) in pairs.items():
        layer: Any = modules[name]
        change = up.float() @ down.float() * adapter.config.scale(name)
        if not isinstance(layer, nn.Linear):  # their weights have the inputs first
            change = change.T
        _put(layer, "weight", layer.weight.float() + change, layer.weight.dtype)


def _layer(name: str) -> str:
    """The module that a tensor of an adapter is of."""
    end = next((end for end in _PAIRS if name.endswith(end)), "")
    return name.removesuffix(end) if end else name.replace(".base_layer.", ".").rpartition(".")[0]


def _put(module: Any, name: str, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    """As a new parameter, so that what was tied to the old one keeps it."""
    setattr(module, name, nn.Parameter(tensor.to(dtype), requires_grad=False))


def _pairs(
    adapter: Adapter, tensors: dict[str, torch.Tensor], modules: dict[str, nn.Module], targets: set[str]
) -> dict[str, _Pair]:
    """The two matrices of each layer. Raises `ModelError` unless they are those of the layers that are named."""
    file, config, found = adapter.path / WEIGHTS, adapter.path / ADAPTER, dict[str, dict[int, torch.Tensor]]()
    for name, tensor in tensors.items():
        for end, (place, of_embedding) in _PAIRS.items():
            if name.endswith(end):
                layer = name.removesuffix(end)
                if layer not in modules:
                    raise ModelError(f"{file}: it has {name}, and the model no {layer}: it is for another model")
                if layer not in targets:
                    raise ModelError(f"{config}: no target_modules names {layer}, and {WEIGHTS} has {name}")
                if of_embedding is not isinstance(modules[layer], nn.Embedding):
                    raise ModelError(f"{file}: it has {name}, and the model's {layer} is {_kind(modules[layer])}")
                found.setdefault(layer, {})[place] = tensor
    for layer in sorted(targets):
        if not isinstance(modules[layer], nn.Linear | nn.Embedding | Conv1D):
            kind = _kind(modules[layer])
            raise ModelError(f"{config}: target_modules names {layer}, and LoRA of a {kind} is not supported")
        if found.get(layer, {}).keys() != {0, 1}:
            raise ModelError(f"{config}: target_modules names {layer}, and {WEIGHTS} lacks weights of it")
        down, up = found[layer][0], found[layer][1]
        rank, (rows, columns) = adapter.config.rank(layer), modules[layer].weight.shape  # type: ignore[misc]
        inputs, outputs = (columns, rows) if isinstance(modules[layer], nn.Linear) else (rows, columns)
        for name, tensor, shape in (("A", down, (rank, inputs)), ("B", up, (outputs, rank))):
            if tuple(tensor.shape) != shape:
                raise ModelError(
                    f"{file}: matrix {name} of {layer} has the shape {_shape(tensor)}, and r in {ADAPTER} and the model"
                    f" make it ({shape[0]}, {shape[1]})"
                )
    return {layer: (both[0], both[1]) for layer, both in found.items()}


def _refuse_whole(
    adapter: Adapter, whole: set[str], network: Any, modules: dict[str, nn.Module], targets: set[str], *, cut: bool
) -> None:
    """Unless the parameters that come whole are those that the configuration names."""
    file, config = adapter.path / ADAPTER, adapter.config
    needed = dict(_needed(adapter, modules, targets))
    for name in config.modules_to_save or ():
        if not cut and name not in _HEADS and not any(module.endswith(name) for module in modules):
            raise ModelError(f"{file}: modules_to_save names {name}, which the model has not: it is for another model")
    for name, field in sorted(needed.items()):
        if name not in whole:
            raise ModelError(f"{file}: {field} asks for {name}, and {WEIGHTS} lacks it")
    embeddings = [network.get_input_embeddings(), network.get_output_embeddings()]
    resized = {f"{name}.weight" for name, module in modules.items() if any(module is one for one in embeddings)}
    for name in sorted(whole - needed.keys() - resized):
        raise ModelError(
            f"{adapter.path / WEIGHTS}: it has {name}, which no field of {ADAPTER} names, or the model has not"
        )


def _needed(adapter: Adapter, modules: dict[str, nn.Module], targets: set[str]) -> Iterator[tuple[str, str]]:
    """Each parameter that must come whole, and the field that says so."""
    config = adapter.config
    for name, module in modules.items():
        if config.saves(name):
            yield from ((f"{name}.{one}", "modules_to_save") for one, _ in module.named_parameters())
        trained = config.bias == "all" or (config.bias == "lora_only" and name in targets)
        if trained and isinstance(getattr(module, "bias", None), nn.Parameter):
            yield f"{name}.bias", "bias"


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _shape(tensor: Any) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
