"""Where a network runs and in which numbers."""

from __future__ import annotations

import gc

import torch

from streamer.errors import ModelError
from streamer.heap import give_back


def use_threads(threads: int) -> None:
    """One operation at a time, on so many threads."""
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:  # can be set once in a process
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
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32


def free_memory(device: torch.device) -> None:
    """Collect tensors and give cached blocks back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        give_back()
