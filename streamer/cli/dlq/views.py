"""How dead letters look: a JSON object, or a line for people. No control character reaches the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamer.core.deadletters.causes import Cause, sparkline
from streamer.core.deadletters.letter import DeadLetter
from streamer.core.deadletters.lines import line_of
from streamer.core.deadletters.state import State
from streamer.core.headers import TRACEPARENT
from streamer.core.traceparent import parse

SPARK_CHARS = 16
MESSAGE_CHARS = 120
FORMS = ("auto", "text", "json", "hex")
HEX_BYTES = 16
HEADING = f"{'DEAD LETTER':<34} {'TIME':<20} {'CODE':<22} {'TRY':>3} {'PIPELINE':<16} {'CAME FROM':<28} MESSAGE"


def letter_json(letter: DeadLetter, state: State | None) -> dict[str, Any]:
    """For msgspec: where it lies, when it was written, why, and what became of it; not the record itself."""
    key = letter.record.key()
    return {
        "topic": letter.record.topic(),
        "partition": letter.record.partition(),
        "offset": letter.record.offset(),
        "timestamp_ms": letter.timestamp_ms if letter.timestamp_ms >= 0 else None,
        "key": None if key is None else key.decode("utf-8", "replace"),
        "error": letter.reason,
        "state": state,
    }


def letter_line(letter: DeadLetter, state: State | None) -> str:
    """One line under `HEADING`."""
    reason = letter.reason
    ended = f"[{state.state} by {state.job}] " if state else ""
    cause = ": ".join(filter(None, (reason.exception, reason.message)))
    return plain(
        f"{letter.place!s:<34} {time_text(letter.timestamp_ms):<20} {reason.code:<22} {reason.attempts:>3}"
        f" {reason.pipeline or '-':<16} {letter.origin:<28} {ended}{shortened(cause)}"
    ).rstrip()


def whole_json(letter: DeadLetter, state: State | None) -> dict[str, Any]:
    """The record as `export` writes it, with why, what became of it, and its trace."""
    return {
        "record": json.loads(line_of(letter.record, letter.headers or [])),
        "error": msgspec.to_builtins(letter.reason),
        "state": msgspec.to_builtins(state) if state else None,
        "trace_id": trace_id(letter),
    }


def whole(letter: DeadLetter, state: State | None, form: str) -> Iterator[str]:
    """A dead letter in all its parts."""
    reason = letter.reason
    facts = {
        "dead letter": letter.place,
        "written": time_text(letter.timestamp_ms),
        "by": reason.family.value,
        "came from": letter.origin,
        "code": reason.code,
        "class": reason.failure_class,
        "stage": reason.stage,
        "cause": ": ".join(filter(None, (reason.exception, reason.message))),
        "attempts": reason.attempts,
        "pipeline": reason.pipeline,
        "model": reason.model,
        "omitted": ", ".join(reason.omitted),
        "state": f"{state.state} {state.time} by {state.by}, job {state.job} {state.reason}" if state else "open",
        "trace id": trace_id(letter),
        "key": _shown(letter.record.key()),
    }
    for name, fact in facts.items():
        if fact not in (None, ""):
            yield plain(f"{name:<12} {fact}")
    if letter.headers is None:
        yield "headers      can't be read: a header's name is not UTF-8"
    for number, (name, value) in enumerate(letter.headers or ()):
        yield plain(f"{'' if number else 'headers':<12} {name} = {_shown(value)}")
    yield from _value(letter.record.value(), form)


def trace_id(letter: DeadLetter) -> str | None:
    """The producer's trace."""
    value = dict(letter.headers or ()).get(TRACEPARENT)
    trace = parse(value) if value else None
    return f"{trace.trace_id:032x}" if trace else None


def _value(value: bytes | None, form: str) -> Iterator[str]:
    if value is None:
        yield "value        null"
        return
    yield f"value        {len(value):,} bytes"
    if form in ("auto", "json"):
        try:
            text = json.dumps(json.loads(value), ensure_ascii=False, indent=2)
            yield from map(plain, text.splitlines())
            return
        except (ValueError, RecursionError):
            if form == "json":
                yield "(not JSON: see --as text or --as hex)"
                return
    if form != "hex":
        try:
            yield from map(plain, value.decode("utf-8", "strict" if form == "auto" else "replace").splitlines())
            return
        except UnicodeDecodeError:
            pass
    for start in range(0, len(value), HEX_BYTES):
        part = value[start : start + HEX_BYTES]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        yield f"{start:08x}  {part.hex(' '):<{HEX_BYTES * 3}} {text}"


def _shown(value: bytes | None) -> str | None:
    """Text, or hexadecimal where it is none."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return text if text.isprintable() else f"0x{value.hex()}"


def cause_json(cause: Cause, first_ms: int, last_ms: int) -> dict[str, Any]:
    """A cause with its counts over the time from the first to the last dead letter of all causes."""
    return {
        "fingerprint": cause.fingerprint,
        "code": cause.code,
        "exception": cause.exception or None,
        "message": cause.message or None,
        "count": cause.count,
        "first_ms": cause.first_ms if cause.first_ms >= 0 else None,
        "last_ms": cause.last_ms if cause.last_ms >= 0 else None,
        "pipelines": sorted(cause.pipelines),
        "example": str(cause.example),
        "timeline": cause.timeline.counts(first_ms, last_ms, SPARK_CHARS),
    }


def cause_line(cause: Cause, first_ms: int, last_ms: int) -> str:
    """A cause on one line."""
    what = ": ".join(filter(None, (cause.exception, cause.message)))
    bars = sparkline(cause.timeline.counts(first_ms, last_ms, SPARK_CHARS))
    return plain(
        f"{cause.count:>9,}  {cause.fingerprint}  {cause.code:<22} {bars:<{SPARK_CHARS}}"
        f"  {time_text(cause.first_ms)} – {time_text(cause.last_ms)}  {','.join(sorted(cause.pipelines)) or '-'}"
        f"  {shortened(what)}  e.g. {cause.example}"
    )


def time_text(time_ms: int) -> str:
    """UTC, to the second; a dash where there is none."""
    if time_ms < 0:
        return "-"
    try:
        return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def plain(text: str) -> str:
    """Without control characters, which could write to the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def shortened(text: str) -> str:
    """At most so much of a message."""
    return text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]}…"
