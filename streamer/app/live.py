"""The live line of a terminal, which tells how the pipelines do now, below all lines of the log.

A child of the supervisor has no terminal of its own: it writes how it does among its lines, and the supervisor, which
passes these on, shows it.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

import msgspec

from streamer.app.life import Show
from streamer.core.tally import Vitals, live_words
from streamer.telemetry.log_pipe import LogPipe, read_lines

MARK: Final = "\x1e"
"""Begins a child's line that tells how it does: no line of the log has it."""


def showing(pipe: LogPipe, name: str) -> Show:
    """Shows how the only pipeline does."""
    return lambda vitals: pipe.show(live_words({name: vitals}) if vitals else "")


def telling(pipe: LogPipe) -> Show:
    """Tells the supervisor how this one of its pipelines does."""
    return lambda vitals: pipe.put(f"{MARK}{msgspec.json.encode(vitals).decode()}\n".encode())


class Relay:
    """Passes the lines of several pipelines on to the terminal, and shows how all of them do."""

    def __init__(self, pipe: LogPipe) -> None:
        self._pipe = pipe
        self._vitals: dict[str, Vitals] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def read(self, name: str, descriptor: int) -> None:
        """Pass on what a pipeline's process writes there, until it has ended."""

        def take(line: str) -> None:
            if not line.startswith(MARK):
                self._pipe.put(f"{line}\n".encode(errors="replace"))
                return
            with suppress(msgspec.MsgspecError):  # half a line, of one that was killed
                self._show(name, msgspec.json.decode(line[len(MARK) :], type=Vitals | None))

        def read_all() -> None:
            read_lines(descriptor, take)
            self._show(name, None)

        thread = threading.Thread(target=read_all, name=f"relay-{name}", daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def close(self, timeout_s: float) -> None:
        """Pass on the last lines."""
        for thread in self._threads:
            thread.join(timeout_s)
        self._pipe.show("")

    def _show(self, name: str, vitals: Vitals | None) -> None:
        with self._lock:
            if vitals is None:
                self._vitals.pop(name, None)
            else:
                self._vitals[name] = vitals
            self._pipe.show(live_words(self._vitals) if self._vitals else "")
