"""Where a network runs and in which numbers."""

from __future__ import annotations

import gc
from contextlib import suppress

import tokenizers
import torch
import transformers

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
    """Cast the weights in place, so that no moment holds both. What a network makes itself, such as the frequencies of
    its positions, stays in float32, as where transformers loads it in `dtype`: rounded, they turn far positions."""
    for module in network.modules():
        for weights in module.parameters(recurse=False):
            if weights.is_floating_point():
                weights.data = weights.data.to(dtype)
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point() and name not in module._non_persistent_buffers_set:
                setattr(module, name, buffer.to(dtype))
    return network


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
