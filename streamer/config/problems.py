"""What a check of a configuration finds."""

from typing import Final

LAST_PORT: Final = 65535

Problem = tuple[tuple[str, ...], str]
"""A field's path, and what is wrong with it and how to fix it."""
