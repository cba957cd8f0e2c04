"""Copies between this process and the device of a network: to a GPU and from it through pinned memory, which its copy
engine reaches by itself, so that the thread that launches kernels does not wait for the way there."""

from __future__ import annotations

import logging
from typing import Any

import numpy.typing as npt
import torch

log = logging.getLogger(__name__)

_pins = True


def to_device(values: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """On a CPU the array itself, without a copy."""
    own = torch.from_numpy(values)
    if device.type != "cuda":
        return own.to(device)
    pinned = _pinned(own)
    # The allocator of pinned memory keeps the block until the copy is done, also when this tensor is gone.
    return own.to(device) if pinned is None else pinned.copy_(own).to(device, non_blocking=True)


def to_host(numbers: torch.Tensor) -> npt.NDArray[Any]:
    """Waits until they are there."""
    pinned = _pinned(numbers) if numbers.device.type == "cuda" else None
    if pinned is None:
        plain: npt.NDArray[Any] = numbers.cpu().numpy()
        return plain
    pinned.copy_(numbers, non_blocking=True)
    torch.cuda.current_stream(numbers.device).synchronize()
    found: npt.NDArray[Any] = pinned.numpy()
    return found


def _pinned(like: torch.Tensor) -> torch.Tensor | None:
    """Of the same shape and dtype; None where this machine gives no such memory, which is said once."""
    global _pins
    if not _pins:
        return None
    try:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
    except RuntimeError as error:
        _pins = False
        log.warning("copies to and from the GPU go without pinned memory: %s", type(error).__name__)
        return None
