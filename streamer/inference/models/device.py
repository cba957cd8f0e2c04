"""Where a network runs and in which numbers."""

from __future__ import annotations

import copy
import gc
from contextlib import suppress

import tokenizers
import torch
import transformers
from transformers import PreTrainedModel
from transformers.core_model_loading import build_glob_alternation
from transformers.utils.generic import ContextManagers

from streamer.errors import ModelError
from streamer.machine.malloc import give_back


def use_threads(threads: int) -> None:
    """One operation at a time, on so many threads."""
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        with suppress(RuntimeError):  # it can be set once in a process, which may be a caller's own
            torch.set_num_interop_threads(1)


def choose_device(device: str, worker: int) -> torch.device:
    """`auto` and `cuda` deal the GPUs out to the workers; `auto` takes the CPU where there are none.

    Raises `ModelError` for a GPU that is not there.
    """
    count = torch.cuda.device_count()
    if device in ("auto", "cuda") and count:
        return torch.device("cuda", worker % count)
    chosen = torch.device("cpu" if device == "auto" else device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} was asked for, but torch sees no GPU here")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies in it, else float32: emulated, it is slower than float32."""
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        wide = torch.backends.cpu.get_cpu_capability() == "AVX512"  # what torch may use, not what the processor has
        native = wide and bool(_capabilities().get("avx512_bf16") or _capabilities().get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32


def lower(network: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Cast the weights in place, so that no moment holds both: each to what transformers loads it in when it is asked
    for `dtype`. Some stay in float32, such as the biases of a router; and what a network makes itself stays where
    rounding would turn far positions, and follows where a layer takes one dtype only."""
    loaded = _loaded_in(network, dtype)
    for prefix, module in network.named_modules():
        for name, weights in module.named_parameters(prefix, recurse=False):
            if weights.is_floating_point():
                weights.data = weights.data.to(loaded.get(name, dtype))
        for name, buffer in module.named_buffers(prefix, recurse=False):
            last = name.rpartition(".")[2]
            made = last in module._non_persistent_buffers_set
            if buffer.is_floating_point():
                setattr(module, last, buffer.to(loaded.get(name, buffer.dtype if made else dtype)))
    return network


def _loaded_in(network: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The dtype of each weight and buffer of a network that transformers loads in `dtype`: what its class makes of it,
    save those that the class keeps in float32."""
    if not isinstance(network, PreTrainedModel):
        return {}
    kind, config = type(network), copy.deepcopy(network.config)
    for part in (config, *(one for name in config.sub_configs if (one := getattr(config, name, None)))):
        part.dtype = dtype
    with ContextManagers(kind.get_init_context(dtype, False, False, None)):
        like = kind(config)  # without memory
    kept = network._get_dtype_plan(dtype)
    keeps = build_glob_alternation(list(kept))[0] if kept else None
    stored = set(like.state_dict())
    return {
        name: torch.float32 if keeps and name in stored and keeps.search(name) else weights.dtype
        for found in (like.named_parameters(remove_duplicate=False), like.named_buffers(remove_duplicate=False))
        for name, weights in found
    }


def versions() -> tuple[str, ...]:
    """Of the libraries that compute."""
    return torch.__version__, transformers.__version__, tokenizers.__version__


def surroundings(device: torch.device) -> tuple[str, ...]:
    """What of this machine its numbers may hang on."""
    if device.type == "cuda":
        return (torch.cuda.get_device_name(device),)
    return torch.backends.cpu.get_cpu_capability(), *sorted(name for name, has in _capabilities().items() if has)


def _capabilities() -> dict[str, bool]:
    return {name: has is True for name, has in torch.cpu.get_capabilities().items()}


def free_memory(device: torch.device) -> None:
    """Collect tensors and give cached blocks back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        give_back()
