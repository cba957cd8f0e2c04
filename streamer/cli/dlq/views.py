"""How dead letters look to people: lines of text. No control character reaches the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from streamer.core.deadletters.causes import Cause, sparkline
from streamer.core.deadletters.families import Family
from streamer.core.deadletters.letter import DeadLetter, trace_id
from streamer.core.deadletters.replay import event_id
from streamer.core.deadletters.state import State
from streamer.ops.dlq.documents import TIMELINE_PARTS, bytes_text

MESSAGE_CHARS = 120
FORMS = ("auto", "text", "json", "hex")
HEX_BYTES = 16
HEADING = f"{'DEAD LETTER':<34} {'TIME':<20} {'CODE':<22} {'TRY':>3} {'PIPELINE':<16} {'CAME FROM':<28} MESSAGE"


def letter_line(letter: DeadLetter, state: State | None) -> str:
    """One line under `HEADING`."""
    reason = letter.reason
    ended = f"[{state.state} by {state.job}] " if state else ""
    cause = ": ".join(filter(None, (reason.exception, reason.message)))
    return plain(
        f"{letter.place!s:<34} {time_text(letter.timestamp_ms):<20} {reason.code:<22} {reason.attempts:>3}"
        f" {reason.pipeline or '-':<16} {letter.origin:<28} {ended}{shortened(cause)}"
    ).rstrip()


def whole(letter: DeadLetter, state: State | None, form: str, readers: Sequence[str] = ()) -> Iterator[str]:
    """A dead letter in all its parts; or a record that is none, but is read by these pipelines."""
    if readers:
        who = f"pipeline{'s' * (len(readers) > 1)} {', '.join(readers)}"
        fields: dict[str, object] = {
            "record": letter.place,
            "written": time_text(letter.timestamp_ms),
            "is": f"not a dead letter, but an input of {who}",
        }
    else:
        fields = _told(letter, state)
    fields |= {"event id": event_id(letter), "trace id": trace_id(letter), "key": _shown(letter.record.key())}
    for name, field in fields.items():
        if field not in (None, ""):
            yield plain(f"{name:<12} {field}")
    if letter.headers is None:
        yield "headers      can't be read: a header's name is not UTF-8"
    for number, (name, value) in enumerate(letter.headers or ()):
        yield plain(f"{'' if number else 'headers':<12} {name} = {_shown(value)}")
    yield from _value(letter.record.value(), form)


def _told(letter: DeadLetter, state: State | None) -> dict[str, object]:
    reason = letter.reason
    is_known = reason.family is not Family.UNKNOWN
    return {
        "dead letter": letter.place,
        "written": time_text(letter.timestamp_ms),
        "by": reason.family.value if is_known else "unknown: no header of it says who gave it up, or why",
        "came from": letter.origin if is_known else None,
        "code": reason.code if is_known else None,
        "class": reason.failure_class,
        "stage": reason.stage,
        "cause": ": ".join(filter(None, (reason.exception, reason.message))),
        "attempts": reason.attempts if is_known else None,
        "pipeline": reason.pipeline,
        "model": reason.model,
        "omitted": ", ".join(reason.omitted),
        "state": f"{state.state} {state.time} by {state.by}, job {state.job} {state.reason}" if state else "open",
    }


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
    return None if value is None else bytes_text(value)


def cause_line(cause: Cause, first_ms: int, last_ms: int) -> str:
    """A cause on one line."""
    what = ": ".join(filter(None, (cause.exception, cause.message)))
    bars = sparkline(cause.timeline.counts(first_ms, last_ms, TIMELINE_PARTS))
    return plain(
        f"{cause.count:>9,}  {cause.fingerprint}  {cause.code:<22} {bars:<{TIMELINE_PARTS}}"
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
    """The text without control characters, which could write to the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def shortened(text: str) -> str:
    """At most so much of a message."""
    return text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]}…"
