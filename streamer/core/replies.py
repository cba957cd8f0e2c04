"""What an HTTP status of a model's server says, and what of an error's body may be repeated: never its message, since
servers quote the text that they refuse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, Final

import msgspec

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,63}")
_FIELDS: Final = ("type", "error_type", "code", "param")
_TOO_LONG: Final = ("context_length", "too_long", "string_above_max_length")


class Verdict(Enum):
    """Whose fault a status is."""

    ANSWER = auto()
    RECORD = auto()  # this text's alone
    LOAD = auto()  # the server wants less
    SERVER = auto()  # the server's, for a while
    SETTING = auto()  # the configuration's: the address, the key or the model's name


def verdict(status: int) -> Verdict:
    """Of a status. 409 and 425 ask to try again; 424 is what TEI says when its own model fails."""
    if status == 200:
        return Verdict.ANSWER
    if status in (400, 413, 422):
        return Verdict.RECORD
    if status == 429:
        return Verdict.LOAD
    if status in (408, 409, 424, 425) or status >= 500:
        return Verdict.SERVER
    return Verdict.SETTING


def words_of(body: bytes, texts: Sequence[str] = ()) -> str:
    """The type, code and param of an error, as far as they are words and stand in none of the `texts`; "" for none."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    if not isinstance(found, dict):
        return ""
    words: list[str] = []
    for field in _FIELDS:
        word = found.get(field)
        if (
            isinstance(word, str)
            and word not in words
            and _WORD.fullmatch(word)
            and not any(word in text for text in texts)
        ):
            words.append(word)
    return ", ".join(words)


def is_too_long(status: int, body: bytes) -> bool:
    """Whether the server says that the text is longer than its model reads."""
    return status == 413 or any(sign in words_of(body) for sign in _TOO_LONG)


def retry_after_s(header: str | None, now_epoch: float) -> float | None:
    """Seconds that `Retry-After` asks to wait: a number, or a date; None where it says neither."""
    if header is None:
        return None
    try:
        return max(0.0, float(header)) if header.strip()[:1].isdigit() else _until(header, now_epoch)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(date: str, now_epoch: float) -> float:
    return max(0.0, parsedate_to_datetime(date).timestamp() - now_epoch)
