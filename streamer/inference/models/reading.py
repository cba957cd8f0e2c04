"""The network of a checkpoint as transformers reads it, with plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from streamer.errors import ModelError
from streamer.inference.models.device import lower
from streamer.inference.models.quantised import BITSANDBYTES, FIELD, as_plain


def read_network(kind: Any, path: Path, config: Any, dtype: torch.dtype, model: str, **named: Any) -> tuple[Any, Any]:
    """The network of the Auto class `kind` in `dtype`, on the CPU, and what transformers tells of its loading. `model`
    is what the user calls it. Raises `ModelError` for quantised weights that could not be made plain, and whatever
    transformers raises."""
    quantised = as_plain(config, model)
    method = config.quantization_config["quant_method"] if quantised else ""
    network, info = kind.from_pretrained(
        path,
        config=config,
        # A lower one would round the scales, and each weight by them.
        dtype=torch.float32 if method not in ("", BITSANDBYTES) else dtype,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        **quantised,
        **named,
    )
    return (_plain(network, method, dtype, model) if quantised else network), info


def _plain(network: Any, method: str, dtype: torch.dtype, model: str) -> Any:
    """The same network as if its weights had never been quantised."""
    if method == BITSANDBYTES:
        network = network.dequantize()
    network._forward_pre_hooks.clear()
    for name, module in list(network.named_modules()):
        # Some libraries leave scales and their own ways of calling it behind. A network's own kinds, such as routers,
        # stay.
        if isinstance(module, nn.Linear) and not type(module).__module__.startswith("transformers.models."):
            plain = nn.Linear(1, 1, bias=module.bias is not None, device="meta")
            plain.in_features, plain.out_features = module.in_features, module.out_features
            plain.weight, plain.bias = module.weight, module.bias
            owner, _, last = name.rpartition(".")
            setattr(network.get_submodule(owner), last, plain)
    for name in ("hf_quantizer", "quantization_method", "is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        vars(network).pop(name, None)
    if FIELD in vars(network.config):
        delattr(network.config, FIELD)
    for name, weights in network.named_parameters():
        if type(weights) is not nn.Parameter or weights.dtype not in (dtype, torch.float32):
            raise ModelError(f"the weights of {model} can't be made plain: {name} is still of {weights.dtype}")
    return lower(network, dtype)
