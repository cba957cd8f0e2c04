"""Name an exception that nobody expected, without its message: that may quote what was being read."""

from __future__ import annotations

from streamer.inference.worker.trouble import place_of


def named(error: BaseException) -> str:
    """Its class, and where it came from."""
    return f"{type(error).__name__} at {place_of(error)}"
