"""What our processes ask of glibc's allocator. Another C library's is left as it is."""

from __future__ import annotations

import ctypes
from typing import Any, Final

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MMAP_THRESHOLD_MAX: Final = 32 << 20
_KEPT_BYTES: Final = 1 << 30


def share_one_arena() -> None:
    """Let the threads share one arena instead of having one each: records are allocated by one thread and freed by
    another, and the driver grew by 5 to 20 MB more (`streamer bench memory`)."""
    _set(_M_ARENA_MAX, 1)


def keep_freed() -> None:
    """Keep what is freed for the next allocation instead of giving it back to the kernel, which a forward pass does
    with its tensors many times over: they come back as fresh pages, faulted in and zeroed one by one, in 4 % of the CPU
    time of MiniLM in torch. Costs what the largest pass has taken, until the process ends or `give_back`; blocks above
    32 MB are not kept."""
    _set(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_MAX)
    _set(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back() -> None:
    """Return free pages to the kernel, also from among those in use."""
    trim = _find("malloc_trim")
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _set(parameter: int, value: int) -> None:
    mallopt = _find("mallopt")
    if mallopt is not None:
        mallopt(parameter, value)


def _find(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)
