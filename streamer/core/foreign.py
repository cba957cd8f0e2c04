"""Records of topics that other programs may write to, too: what can't be read is theirs, and is passed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_own(decode: Callable[[bytes], T], value: bytes | None) -> T | None:
    """What `decode` makes of a record's value; None where that is no JSON, or not of its form. Never raises."""
    try:
        return decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
