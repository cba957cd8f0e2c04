"""Where workers keep what they found out about a model: `$XDG_CACHE_HOME/streamer`, by default `~/.cache/streamer`.

All of it can be found out again: a directory that can't be written costs time, never a failure.
"""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The directory of all findings; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer"
