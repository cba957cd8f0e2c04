"""Dead letters as the page shows them. Without `show_text` nothing that may quote an event leaves the console."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streamer.core import headers as names
from streamer.core.deadletters.causes import Cause
from streamer.core.deadletters.families import Family
from streamer.core.deadletters.letter import DeadLetter, trace_id
from streamer.core.deadletters.replay import event_id
from streamer.core.deadletters.state import State
from streamer.ops.dlq.documents import bytes_text, cause_json, letter_json

MAX_VALUE_BYTES: Final = 256_000
# Our own messages never quote a record. Those of other tools do; these are the endings of the headers that hold them.
_QUOTING: Final = ("message", "stacktrace", "exception", "fallback_error")
_CLASS_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]*")
_OTHERS: Final = frozenset(Family) - {Family.STREAMER}


def cause_document(cause: Cause, first_ms: int, last_ms: int, *, show_text: bool) -> dict[str, Any]:
    """A cause; `withheld` where its message is another tool's."""
    document = cause_json(cause, first_ms, last_ms)
    return _without_message(document, withhold=not show_text and cause.code in _OTHERS)


def letter_document(letter: DeadLetter, state: State | None, *, show_text: bool) -> dict[str, Any]:
    """A dead letter in a list."""
    document: dict[str, Any] = msgspec.to_builtins(letter_json(letter, state))
    withhold = not show_text and letter.reason.family in _OTHERS
    document["error"] = _without_message(document["error"], withhold=withhold)
    return {**document, "place": str(letter.place), "origin": letter.origin}


def whole_document(letter: DeadLetter, state: State | None, *, show_text: bool) -> dict[str, Any]:
    """A dead letter with its headers, and its value: as text with `show_text`, else by size and SHA-256."""
    return {
        **letter_document(letter, state, show_text=show_text),
        "event_id": event_id(letter),
        "trace_id": trace_id(letter),
        "headers": None
        if letter.headers is None
        else [_header(letter, name, value, show_text=show_text) for name, value in letter.headers],
        "value": value_document(letter.record.value(), show_text=show_text),
    }


def value_document(value: bytes | None, *, show_text: bool) -> dict[str, Any] | None:
    """Size and SHA-256; with `show_text` also the text, or the bytes in hexadecimal where it is none."""
    if value is None:
        return None
    document: dict[str, Any] = {"size_bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if not show_text:
        return document
    shown = value[:MAX_VALUE_BYTES]
    document["cut"] = len(shown) < len(value)
    try:
        value.decode()
    except UnicodeDecodeError:
        return document | {"hex": shown.hex(" ")}
    return document | {"text": shown.decode("utf-8", "ignore")}


def _header(letter: DeadLetter, name: str, value: bytes | None, *, show_text: bool) -> dict[str, Any]:
    ours = letter.reason.family is Family.STREAMER and name == names.CONNECT_MESSAGE
    if value is not None and not show_text and not ours and name.lower().endswith(_QUOTING):
        return {"name": name, "size_bytes": len(value)}
    return {"name": name, "value": None if value is None else bytes_text(value, "\n\t")}


def _without_message(document: Mapping[str, Any], *, withhold: bool) -> dict[str, Any]:
    """Without what another tool wrote freely: its message, and an exception that is more than a class's name."""
    message, exception = document.get("message"), document.get("exception")
    if not withhold:
        return {**document, "withheld": False}
    named = exception if exception is None or _CLASS_NAME.fullmatch(exception) else None
    return {**document, "message": None, "exception": named, "withheld": (message, exception) != (None, named)}
