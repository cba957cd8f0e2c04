"""What we ask of the Linux kernel for a process of ours. Elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Final

# Of Linux's sys/prctl.h.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Send this process the signal when the thread that made it ends, however that ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def name_process(name: str) -> None:
    """What to call it: a forked process has its parent's command line."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)
