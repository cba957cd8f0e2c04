"""Makes weights that are mapped from their files this process's own.

safetensors maps a file, and what the network then computes with is the file as it is, not as it was: who overwrites it
in place (`cp`, `rsync --inplace`) changes the answers of a worker that runs, in silence. So each tensor is copied, and
its part of the file is let go before the next one is: no moment holds both.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from typing import Any, Final

import torch

_MAPS: Final = Path("/proc/self/maps")
_SUFFIX: Final = ".safetensors"


def own_weights(network: Any) -> None:
    """Copy each mapped parameter and buffer of a network; those that share memory share it afterwards, too."""
    mapped, copies = _mapped(), dict[Any, torch.Tensor]()
    found = [
        weights
        for module in network.modules()
        for weights in (*module._parameters.values(), *module._buffers.values())
        if weights is not None and _is_in(mapped, weights)
    ]
    overlaid = _overlaid(found)
    for weights in found:
        if (place := _place(weights)) not in copies:
            copies[place] = _copy(weights.data, let_go=place not in overlaid)
        weights.data = copies[place]


def own_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same, none of them mapped."""
    mapped = _mapped()
    return {name: _copy(tensor) if _is_in(mapped, tensor) else tensor for name, tensor in tensors.items()}


def _place(tensor: torch.Tensor) -> Any:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _overlaid(tensors: list[torch.Tensor]) -> set[Any]:
    """The places of those that lie over another one's memory: what was written to it is still to be copied for that."""
    places = {_place(tensor): (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in tensors}
    found, last, reach = set(), None, 0
    for place, (start, end) in sorted(places.items(), key=lambda one: one[1]):
        if start < reach:
            found |= {place, last}
        if end > reach:
            last, reach = place, end
    return found


def _is_in(mapped: list[range], tensor: torch.Tensor) -> bool:
    return any(tensor.data_ptr() in addresses for addresses in mapped)


def _copy(tensor: torch.Tensor, *, let_go: bool = False) -> torch.Tensor:
    copy, start = tensor.clone(), tensor.data_ptr()
    if let_go and tensor.is_contiguous():
        # Whole pages alone: others hold parts of its neighbours, which may have been written to.
        first, end = -(-start // mmap.PAGESIZE), (start + tensor.nbytes) // mmap.PAGESIZE
        if end > first:
            length = ctypes.c_size_t((end - first) * mmap.PAGESIZE)
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first * mmap.PAGESIZE), length, mmap.MADV_DONTNEED)
    return copy


def _mapped() -> list[range]:
    """The addresses of each private mapping of weights; none where the system does not say what is mapped."""
    try:
        lines = _MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        addresses, rights, *_, path = line.split(maxsplit=5)
        if rights.endswith("p") and path.removesuffix(" (deleted)").endswith(_SUFFIX):
            start, _, end = addresses.partition("-")
            found.append(range(int(start, 16), int(end, 16)))
    return found
