"""Logs on stderr: lines for people or JSON lines for machines, without secrets and without event text.

A log call names its facts as `extra={"data": {...}}`. Only the fields in `FIELDS` are written; of any other the name
alone is, under `withheld`. Exceptions are written as class and places, without their message, which may quote an
input; only our own errors' messages, made for users, are kept.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import msgspec

from streamer.errors import StreamerError

LogFormat = Literal["auto", "console", "json"]

FIELDS: Final = frozenset(
    {
        "act", "address", "attempt", "attempts", "broker", "code", "count", "deadline_s", "device", "dtype", "epoch",
        "error", "errors", "exit_code", "facility", "field", "group", "index", "job", "limit", "limit_bytes", "model",
        "name", "of", "offset", "outcome", "partition", "partitions", "passes", "pause_s", "pid", "pipeline", "places",
        "port", "reason", "reasons", "records", "revision", "seconds", "signal", "size_bytes", "slot", "state", "task",
        "thread", "tokens", "topic", "topics", "version", "within_s", "worker", "workers",
    }
)  # fmt: skip

MAX_VALUE_CHARS: Final = 1_000

_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET = re.compile(
    r"(?i)((?:password|passwd|secret|credentials?|api[_-]?key|token)[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send all logs to `stream` (stderr). `level` (debug, info, warning, error) holds for streamer; other libraries
    are heard from warning on. May be called again; the last call holds."""
    stream = sys.stderr if stream is None else stream
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if as_json else ConsoleFormatter())
    root = logging.getLogger()
    for before in root.handlers[:]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("streamer").setLevel(level.upper())
    logging.captureWarnings(True)


def data_of(record: logging.LogRecord) -> dict[str, Any]:
    """The facts of a log call that may be written, and the names of those that may not under `withheld`."""
    given = getattr(record, "data", None)
    if not isinstance(given, Mapping):
        return {}
    data = {name: _plain(value) for name, value in given.items() if name in FIELDS}
    withheld = sorted(_clean(str(name)) for name in given if name not in FIELDS)
    if withheld:
        data["withheld"] = withheld
    return data


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, then the facts."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        line.update((name, value) for name, value in data_of(record).items() if name not in line)
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _exception(record.exc_info[1])
        return msgspec.json.encode(line).decode()


class ConsoleFormatter(logging.Formatter):
    """For people: time, level, message, then the facts as name=value; an exception on lines below."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={_shown(value)}" for name, value in data_of(record).items())
        clock = _time_of(record)[11:19]
        line = f"{clock} {record.levelname.lower():<7} {_message_of(record)}{facts}"
        if record.exc_info and record.exc_info[1]:
            line += "".join(f"\n    {part}" for part in _exception(record.exc_info[1]))
        return line


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message_of(record: logging.LogRecord) -> str:
    try:
        return _clean(record.getMessage())
    except Exception:  # a library's log call whose arguments do not fit its text
        return _clean(str(record.msg))


def _exception(error: BaseException) -> list[str]:
    """Class and places, the innermost last, causes after it."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        message = f": {_clean(str(current))}" if isinstance(current, StreamerError) else ""
        lines.append(f"{type(current).__module__}.{type(current).__qualname__}{message}")
        places = traceback.extract_tb(current.__traceback__)
        lines += [f"at {place.filename}:{place.lineno} in {place.name}" for place in places]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return lines


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_clean(str(name)): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return _clean(str(value))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and " " not in value else msgspec.json.encode(value).decode()


def _clean(text: str) -> str:
    """Without control characters, which could forge a line, without what looks like a secret, and not endless."""
    text = _USER_INFO.sub("***@", text[: 10 * MAX_VALUE_CHARS])
    text = _SECRET.sub(r"\1***", text)
    text = _CONTROL.sub(" ", text)
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
