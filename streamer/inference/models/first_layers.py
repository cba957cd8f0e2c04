"""A network that is too large to be loaded in float32 is held to it by its first layers alone.

A lower precision goes wrong in kernels and in ranges of numbers, which the first layers show for the others; what adds
up over all of them, they do not.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Final

import torch

from streamer.errors import ModelError
from streamer.inference.models import heads
from streamer.inference.models.adapter import Adapter
from streamer.inference.models.intact import read_header
from streamer.inference.models.lora import merge, whole_weights
from streamer.inference.models.quantised import method_of, numbers_in
from streamer.inference.models.reading import read_network
from streamer.inference.models.safety import read_json
from streamer.machine.processors import free_memory_bytes

SHARE: Final = 0.5
"""Of the free memory: what a float32 copy may take, so that the checks, and other workers, find room beside it."""
LAYERS: Final = 4
_BYTES: Final = 4
_DECODERS: Final = ("num_decoder_layers", "decoder_layers")


def too_large(path: Path, device: torch.device) -> str:
    """Why a float32 copy of the weights in `path` is not made on `device`, in words; "" where there is room for it."""
    packed = bool(method_of(read_json(path / "config.json")))
    needed = _BYTES * sum(
        math.prod(tensor["shape"]) * numbers_in(tensor["dtype"], packed=packed)
        for file in path.glob("*.safetensors")
        for tensor in read_header(file).values()
    )
    free = free_memory_bytes()
    if device.type == "cuda":
        free = min(free, torch.cuda.mem_get_info(device)[0])
    if needed <= SHARE * free:
        return ""
    return f"in float32 it takes {needed / 1e9:.1f} GB, more than {SHARE:.0%} of the {free / 1e9:.1f} GB that are free"


def first_layers(
    kind: Any, path: Path, config: Any, dtype: torch.dtype, adapter: Adapter | None = None
) -> tuple[Any, str]:
    """The network of the first layers in `dtype`, on the CPU, with their part of the adapter merged, and what it is in
    words. Raises `ModelError` where the network can't be cut there."""
    cut = copy.deepcopy(config)
    text = cut.get_text_config()
    try:
        total = text.num_hidden_layers
        for name in ("num_hidden_layers", *(name for name in _DECODERS if hasattr(text, name))):
            setattr(text, name, min(LAYERS, getattr(text, name)))
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[: text.num_hidden_layers]
        network, info = read_network(kind, path, cut, dtype, str(path))
        brought = whole_weights(adapter.tensors) if adapter else {}
        unread = heads.unread(info["missing_keys"], bare=not heads.has_head(kind.__name__))
        lacking = [name for name in unread if name not in brought]
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of transformers, for networks whose layers are not alike
        raise ModelError(f"its first layers can't be loaded by themselves ({type(error).__name__})") from error
    if lacking:
        raise ModelError(f"its first layers can't be loaded by themselves: they lack {lacking[0]}")
    if adapter:
        merge(network, adapter, lambda _: "", cut=True)
    return network.eval().requires_grad_(False), f"its first {min(LAYERS, total)} of {total} layers"
