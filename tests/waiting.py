"""Waiting for a condition, with patience for a machine that is busy."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], what: str = "", within_s: float = 60.0) -> None:
    """Wait until it holds. Fails, and names `what` was waited for, where it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what or 'the condition'}"
        time.sleep(0.01)
