"""Logs on stderr: lines for people or JSON lines for machines, without secrets and without event text.

A log call names its fields as `extra={"data": {...}}`. With them `"words"` may be a sentence, which people are told in
place of message and fields. Only the fields in `FIELDS` are written; of any other the name
alone is, under `withheld`. Exceptions are written as class and places, without their message, which may quote an
input; only our own errors' messages, made for users, are kept.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import msgspec

from streamer import stderr
from streamer.errors import StreamerError
from streamer.telemetry.log_limit import LogLimit
from streamer.telemetry.log_pipe import LogPipe, PipeStream, read_lines

LogFormat = Literal["auto", "console", "json"]

FIELDS: Final = frozenset(
    {
        "act", "address", "attempt", "attempts", "backend", "broker", "cached", "capacity", "code", "count",
        "dead_letters", "deadline_s", "device", "dtype", "epoch", "error", "errors", "exit_code", "facility", "field",
        "group", "index", "job", "lag_records", "lag_s", "left_out", "limit", "limit_bytes", "member", "model",
        "name", "of", "offset", "outcome", "partition", "partitions", "passes", "pause_s", "pid", "pipeline",
        "pipelines", "places", "port", "rate", "reason", "reasons", "records", "replicas", "results", "revision",
        "seconds", "signal", "size_bytes", "skipped", "slot", "state", "task", "thread", "tokens", "topic", "topics",
        "version", "waits_for", "within_s", "worker", "workers",
    }
)  # fmt: skip

MAX_VALUE_CHARS: Final = 1_000
LAST_WORDS_S: Final = 1.0
WORKERS_WORDS_S: Final = 0.3

_USER_INFO = re.compile(r"(?<=://)[^\s\"']+@")
_SECRET = re.compile(
    r"(?i)((?:password|passwd|secret|credentials?|api[_-]?key|token)[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)"
)
_log = logging.getLogger(__name__)
_of_workers = logging.getLogger("streamer.app.workers.stderr")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(
    log_format: LogFormat,
    level: str,
    stream: TextIO | None = None,
    *,
    pipelines: Sequence[str] = (),
    member: int = 0,
    column: str = "",
    terminal: bool = False,
) -> None:
    """Send all logs to `stream` (stderr). `level` (debug, info, warning, error) holds for streamer; other libraries
    are heard from warning on. JSON lines name the `pipelines` of this process, and which `member` it is of several;
    those for people begin with `column`. `terminal` says that who reads `stream` passes it on to one. May be called
    again; the last call holds.

    Where stderr is a file, a pipe or a terminal, all that this process and its workers write there goes through
    threads of its own from now on, so that nobody waits for who reads it.
    """
    if sys.stderr is None:  # started with it closed
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    as_json = log_format == "json" or (log_format == "auto" and not terminal and not (stream or sys.stderr).isatty())
    handler = LimitedHandler()
    handler.setFormatter(JsonFormatter(",".join(pipelines), member) if as_json else ConsoleFormatter(column))
    if stream is not None:
        handler.write = stream.write
    elif not handler.take_stderr():
        handler.write = sys.stderr.write
    root = logging.getLogger()
    for before in root.handlers[:]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("streamer").setLevel(level.upper())
    logging.captureWarnings(True)


def last_words(timeout_s: float = LAST_WORDS_S) -> None:
    """Before an end of the process: write what waits to be written, if that can be within `timeout_s`."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LimitedHandler):
            handler.end(timeout_s)
    with suppress(Exception):
        sys.stderr.flush()


def lost_lines() -> int:
    """How many lines of the log nobody will read: what they were to be written to was full, or stood."""
    handlers = logging.getLogger().handlers
    return sum(each.pipe.lost for each in handlers if isinstance(each, LimitedHandler) and each.pipe)


def own_pipe() -> LogPipe | None:
    """Where lines for people go past the log, once `configure` was called: None where the log is JSON lines, or goes
    through no thread of its own."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LimitedHandler) and isinstance(handler.formatter, ConsoleFormatter):
            return handler.pipe
    return None


class LimitedHandler(logging.Handler):
    """Writes lines by `write`, fewer of those that say the same again (`LogLimit`)."""

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[str], object]
        self._limit = LogLimit()
        self.pipe: LogPipe | None = None
        self._relay: threading.Thread | None = None

    def take_stderr(self) -> bool:
        """Write to standard error on a thread of its own, and lead there what others write to it: Python here by
        `sys.stderr`, workers by a pipe. False where there is no such descriptor."""
        try:
            descriptor = sys.stderr.fileno()
        except (OSError, AttributeError):  # closed, or a test's
            return False
        pipe = self.pipe = LogPipe(descriptor, self._dropped_line, self._catch_up)
        self.write = lambda line: pipe.put(line.encode(errors="replace"))
        sys.stderr = io.TextIOWrapper(
            PipeStream(pipe),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        threading.excepthook = _on_thread_exception
        reading, stderr.descriptor = os.pipe()
        _of_workers.setLevel(logging.INFO)  # whatever the level of ours: they say why a model's process ended
        self._relay = threading.Thread(
            target=read_lines, args=(reading, lambda line: _of_workers.info("%s", line)), name="workers-stderr"
        )
        self._relay.daemon = True
        self._relay.start()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, or count it."""
        try:
            now = time.monotonic()
            left_out = self._limit.admit(record, now)
            if left_out is not None:
                self._write(record, left_out)
        except Exception:
            self.handleError(record)

    def end(self, timeout_s: float) -> None:
        """The last words of workers and of ourselves."""
        descriptor, stderr.descriptor = stderr.descriptor, None
        if descriptor is not None and self._relay is not None:
            os.close(descriptor)
            self._relay.join(min(timeout_s, WORKERS_WORDS_S))
        self._catch_up(ending=True)
        if self.pipe is not None:
            self.pipe.show("")
            self.pipe.flush(timeout_s)

    def _catch_up(self, *, ending: bool = False) -> None:
        with self.lock or nullcontext():
            for record, left_out in self._limit.due(time.monotonic(), ending=ending):
                self._write(record, left_out)

    def _write(self, record: logging.LogRecord, left_out: int) -> None:
        record.left_out = left_out
        self.write(self.format(record) + "\n")

    def _dropped_line(self, count: int) -> bytes:
        message = "log lines were dropped here: the reader of this log had stopped, or its disk was full"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (), None)
        record.data = {"count": count}
        return (self.format(record) + "\n").encode(errors="replace")


def _on_thread_exception(crash: threading.ExceptHookArgs) -> None:
    error, thread = crash.exc_value, crash.thread
    if error is not None and not isinstance(error, SystemExit):
        data = {"thread": thread.name if thread else "?"}
        _log.error("a thread ended with an exception", exc_info=error, extra={"data": data})


def data_of(record: logging.LogRecord, pipeline: str = "") -> dict[str, Any]:
    """The fields of a log call that may be written, and the names of those that may not under `withheld`; how many
    lines of the same cause were left out before it; and the pipeline, unless the call names one itself."""
    given = getattr(record, "data", None)
    if not isinstance(given, Mapping):
        given = {}
    data = {name: _plain(value) for name, value in given.items() if name in FIELDS}
    withheld = sorted(_clean(str(name)) for name in given if name not in FIELDS)
    if withheld:
        data["withheld"] = withheld
    if left_out := getattr(record, "left_out", 0):
        data["left_out"] = left_out
    if pipeline:
        data.setdefault("pipeline", pipeline)
    return data


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, then the fields."""

    def __init__(self, pipeline: str = "", member: int = 0) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._member = member

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        line.update((name, value) for name, value in data_of(record, self._pipeline).items() if name not in line)
        if self._member:
            line["member"] = self._member
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _exception(record.exc_info[1])
        return msgspec.json.encode(line).decode()


class ConsoleFormatter(logging.Formatter):
    """For people: the column, time, level, then the call's words, or its message with the fields as name=value; an
    exception on lines below."""

    def __init__(self, column: str = "") -> None:
        super().__init__()
        self._column = f"{column} " if column else ""

    def format(self, record: logging.LogRecord) -> str:
        words = _clean(str(getattr(record, "words", "")))
        fields = "".join(f" {name}={_shown(value)}" for name, value in data_of(record).items())
        clock = _time_of(record)[11:19]
        line = f"{self._column}{clock} {record.levelname.lower():<7} {words or _message_of(record) + fields}"
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


def without_logins(text: str) -> str:
    """Without the users and passwords of URLs."""
    return _USER_INFO.sub("***@", text)


def _clean(text: str) -> str:
    """Without control characters, which could forge a line, without what looks like a secret, and not endless."""
    text = without_logins(text[: 10 * MAX_VALUE_CHARS])
    text = _SECRET.sub(r"\1***", text)
    text = _CONTROL.sub(" ", text)
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
