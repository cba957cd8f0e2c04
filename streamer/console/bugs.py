"""Name an exception that nobody expected, without its message: that may quote what was being read."""

from __future__ import annotations

import traceback
from pathlib import Path


def named(error: BaseException) -> str:
    """Its class, and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
