"""Makes weights that are mapped from their files this process's own.

safetensors maps a file, and what the network then computes with is the file as it is, not as it was: who overwrites it
in place (`cp`, `rsync --inplace`) changes the answers of a worker that runs, in silence. A page that was written to is
the process's own from then on.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

_MAPS: Final = Path("/proc/self/maps")
_SUFFIX: Final = ".safetensors"


def own_pages() -> int:
    """Write to each page of each mapped file of weights what is there; returns how many bytes these have. Where the
    system does not say what is mapped, none are found."""
    size = 0
    for start, end in _mapped():
        memory = (ctypes.c_uint8 * (end - start)).from_address(start)
        torch.frombuffer(memory, dtype=torch.uint8)[:: mmap.PAGESIZE].bitwise_or_(0)
        size += end - start
    return size


def _mapped() -> Iterator[tuple[int, int]]:
    """The first and the last address of each private mapping of weights that may be written to."""
    try:
        lines = _MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        addresses, rights, *_, path = line.split(maxsplit=5)
        if rights.startswith("rw") and rights.endswith("p") and path.removesuffix(" (deleted)").endswith(_SUFFIX):
            start, _, end = addresses.partition("-")
            yield int(start, 16), int(end, 16)
