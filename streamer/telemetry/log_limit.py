"""Log lines of one cause are limited: one at once, then one a minute, which says how many were left out.

A cause is a logger's message, numbers aside, about one thing: lines on two partitions have two causes. Lines that tell
of a process's life (info) may come more often. Debug lines are not limited: who asks for them wants them all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

EVERY_S: Final = 59.0  # what says itself again every 60 s is heard each time
MOST_INFO: Final = 20
MOST_OF_LOGGER: Final = 300
"""Lines of one logger within `EVERY_S`, whatever their causes: names in a text can differ as numbers do."""

_THINGS: Final = frozenset(
    {
        "address", "broker", "code", "device", "field", "group", "model", "name", "partition", "partitions", "pipeline",
        "signal", "slot", "task", "thread", "topic", "topics", "worker",
    }
)  # fmt: skip
"""Fields that name what a line is about. The others may differ from line to line of one cause."""
_NUMBER: Final = re.compile(r"((?:[\[/]|partition |worker |broker )\d+)(?:/\d+)*|\d+")
"""The first group names a thing: `topic [3]`, `topic/3` without the offset behind it, `127.0.0.1:9092/1`."""


@dataclass(slots=True)
class _Window:
    """What came of one cause since `began`, in seconds of a monotonic clock."""

    began: float
    admitted: int = 0
    left_out: int = 0
    last: logging.LogRecord | None = None


@dataclass(slots=True)
class LogLimit:
    """Decides which records are written. A signal handler's may come while another is decided on."""

    _windows: dict[Hashable, _Window] = field(default_factory=dict)

    def admit(self, record: logging.LogRecord, now: float) -> int | None:
        """None leaves the record out; else it is written, with how many of its cause were left out before it."""
        if record.levelno < logging.INFO:
            return 0
        window = self._window(_cause_of(record), now)
        of_logger = self._window(record.name, now)
        most = MOST_INFO if record.levelno == logging.INFO else 1
        if window.admitted >= most:
            window.left_out, window.last = window.left_out + 1, record
            return None
        if of_logger.admitted >= MOST_OF_LOGGER:
            of_logger.left_out, of_logger.last = of_logger.left_out + 1, record
            return None
        window.admitted += 1
        of_logger.admitted += 1
        left_out, window.left_out, window.last = window.left_out, 0, None
        return left_out

    def due(self, now: float, *, ending: bool = False) -> list[tuple[logging.LogRecord, int]]:
        """The last record left out of each cause whose time has passed, or of all at the `ending`, with how many were
        left out beside it. Forgets what has gone quiet."""
        found = []
        for cause, window in list(self._windows.items()):
            if now - window.began < EVERY_S and not ending:
                continue
            if window.last is None:
                self._windows.pop(cause, None)
                continue
            found.append((window.last, window.left_out - 1))
            self._windows[cause] = _Window(now, admitted=1)
        return found

    def _window(self, cause: Hashable, now: float) -> _Window:
        window = self._windows.get(cause)
        if window is None or now - window.began >= EVERY_S:
            left_out, last = (window.left_out, window.last) if window else (0, None)
            window = self._windows[cause] = _Window(now, 0, left_out, last)
        return window


def _cause_of(record: logging.LogRecord) -> Hashable:
    try:
        message = record.getMessage()
    except Exception:  # a library's log call whose arguments do not fit its text
        message = str(record.msg)
    data = getattr(record, "data", None)
    fields = data if isinstance(data, Mapping) else {}
    things = [(name, str(fields[name])) for name in sorted(_THINGS & fields.keys())]
    reasons = [_without_numbers(str(fields[name])) for name in ("reason", "reasons", "error") if name in fields]
    return record.name, record.levelno, _without_numbers(message[:500]), *things, *reasons


def _without_numbers(text: str) -> str:
    return _NUMBER.sub(lambda found: found[1] or "#", text)
