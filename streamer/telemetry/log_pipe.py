"""Lines to a file descriptor that may stand: a full pipe holds up the thread that writes to it and nobody else."""

from __future__ import annotations

import io
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

MOST_LINES: Final = 2_000
IDLE_S: Final = 1.0
FALLS_BEHIND: Final = 100
"""Lines that wait while nobody shows a live line: who writes so much is not read."""
_ERASE: Final = b"\r\x1b[2K"


class _Live(NamedTuple):
    """What the last line of a terminal shows from now on."""

    text: str


class LogPipe:
    """Takes lines from any thread and signal handler, and writes them on a thread of its own.

    While what is behind the descriptor stands, the oldest lines that wait are dropped, so that the last words before an
    end are kept. Once it moves again, `dropped_line` makes the line that says how many there were. `idle` is called
    about once a second. `lost` is how many lines were dropped, or met a disk that was full; from any thread.
    """

    def __init__(self, descriptor: int, dropped_line: Callable[[int], bytes], idle: Callable[[], None]) -> None:
        self.descriptor = descriptor
        self._dropped_line = dropped_line
        self._idle = idle
        self.lost = 0
        self._said = 0  # how many of them a line has told of
        self._asked = ""
        self._live = b""
        self._shown = self._broken = False  # the live line is there; the last line has no end yet
        # A SimpleQueue may be interrupted by a signal whose handler puts a line, too.
        self._lines: SimpleQueue[bytes | threading.Event | _Live] = SimpleQueue()
        threading.Thread(target=self._run, name="log-pipe", daemon=True).start()

    @property
    def is_terminal(self) -> bool:
        """Whether people look at what is written, on a terminal that can rewrite a line."""
        dumb = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("CI"))
        return not dumb and os.isatty(self.descriptor)

    def put(self, line: bytes) -> None:
        """Never blocks, never raises."""
        while self._lines.qsize() >= MOST_LINES:
            with suppress(Empty):
                oldest = self._lines.get_nowait()
                if isinstance(oldest, threading.Event):
                    oldest.set()
                elif isinstance(oldest, bytes):
                    self.lost += 1
        self._lines.put(line)

    def show(self, text: str) -> None:
        """On a terminal: keep this line below all others, in the place of the one before; "" takes it away."""
        if text != self._asked and (not text or self._lines.qsize() < FALLS_BEHIND):
            self._asked = text
            self._lines.put(_Live(text))

    def flush(self, timeout_s: float) -> bool:
        """Wait until all earlier lines are written; False when they are not within `timeout_s`."""
        written = threading.Event()
        self._lines.put(written)
        return written.wait(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=IDLE_S)
            except Empty:
                with suppress(Exception):
                    self._idle()
                continue
            if isinstance(line, threading.Event):
                line.set()
                continue
            if isinstance(line, _Live):
                self._live = line.text.encode(errors="replace")
                self._draw()
                continue
            if self._shown:
                self._write(_ERASE)
                self._shown = False
            self._broken = not line.endswith(b"\n")
            if not self._write(line):
                self.lost += 1
            elif untold := self.lost - self._said:
                self._said += untold
                self._write(self._dropped_line(untold))
            if self._live:
                self._draw()

    def _draw(self) -> None:
        """Redraw the live line, cut to the terminal's width: one that wraps can't be erased."""
        if self._broken:
            return
        with suppress(OSError):
            columns = os.get_terminal_size(self.descriptor).columns or 80
            text = self._live.decode(errors="replace")
            cut = text if len(text) < columns else text[: max(columns - 2, 0)] + "…"
            self._write(_ERASE + cut.encode())
            self._shown = bool(cut)

    def _write(self, line: bytes) -> bool:
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:  # who shares it with us has made it so
                poll = select.poll()
                poll.register(self.descriptor, select.POLLOUT)
                poll.poll()
            except OSError:  # the disk is full, or nobody will ever read it
                return False
        return True


class PipeStream(io.RawIOBase):
    """A stream over a `LogPipe`, to take the place of `sys.stderr`."""

    def __init__(self, pipe: LogPipe) -> None:
        self._pipe = pipe

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, content: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """All of it, at once."""
        self._pipe.put(bytes(content))
        return len(content)

    def fileno(self) -> int:
        """What lies behind it."""
        return self._pipe.descriptor

    def isatty(self) -> bool:
        """Whether people look at it."""
        return os.isatty(self._pipe.descriptor)


def read_lines(descriptor: int, take: Callable[[str], None], longest_bytes: int = 8_000) -> None:
    """Hand over every line that comes, until nobody can write to the pipe any more. A longer one comes in parts."""
    rest = b""
    while chunk := os.read(descriptor, 65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        while len(rest) > longest_bytes:
            lines.append(rest[:longest_bytes])
            rest = rest[longest_bytes:]
        for line in lines:
            if line.strip():
                take(line.decode(errors="replace").rstrip())
    if rest.strip():
        take(rest.decode(errors="replace").rstrip())
    os.close(descriptor)
