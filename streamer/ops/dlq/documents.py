"""Dead letters, causes and surveys as documents: what `--json` prints and the console shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from streamer.core.deadletters.causes import Cause
from streamer.core.deadletters.letter import DeadLetter, trace_id
from streamer.core.deadletters.lines import line_of
from streamer.core.deadletters.replay import event_id
from streamer.core.deadletters.state import State
from streamer.ops.dlq.survey import Order, Survey

TIMELINE_PARTS = 16


def bytes_text(value: bytes, keep: str = "") -> str:
    """Bytes as text that is safe to show: control characters as escapes, but for those to `keep`; hexadecimal where
    they are not UTF-8."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


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


def whole_json(letter: DeadLetter, state: State | None, readers: Sequence[str] = ()) -> dict[str, Any]:
    """The record as `export` writes it, with why, what became of it, and its trace. Without an `error` it is no dead
    letter, but an input of the pipelines that `input_of` names."""
    return {
        "record": json.loads(line_of(letter.record, letter.headers or [])),
        "error": None if readers else msgspec.to_builtins(letter.reason),
        "input_of": list(readers),
        "state": msgspec.to_builtins(state) if state else None,
        "event_id": event_id(letter),
        "trace_id": trace_id(letter),
    }


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
        "timeline": cause.timeline.counts(first_ms, last_ms, TIMELINE_PARTS),
    }


def survey_json(order: Order, found: Survey, *, dry: bool) -> dict[str, object]:
    """What an order would do, or did: what moves where, what stays and why."""
    return {
        "action": order.action,
        "job": order.signature.job,
        "digest": found.digest,
        "dry_run": dry,
        "resumed": found.resumed,
        "total": found.total,
        "moves": [
            {"from": topic, "to": target or None, "partition": partition if target else None, "count": count}
            for (topic, target, partition), count in sorted(found.moves.items())
        ],
        "refused": [
            {"why": why, "count": refused.count, "example": str(refused.example)}
            for why, refused in sorted(found.refused.items())
        ],
        "closed": found.closed,
        "same_model": [
            {"pipeline": pipeline, "model": model, "count": count}
            for (pipeline, model), count in sorted(found.same_model.items())
        ],
        "closed_by_this_job": found.before,
        "order_lost_in": [f"{topic}/{partition}" for topic, partition in sorted(found.scattered)],
    }
