"""SIGTERM and SIGINT, noted from the first line of a program on, whatever is under way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

Act = Callable[[signal.Signals, int], None]


class Stopping:
    """Counts the signals that ask this process to stop. Before there is an `act` nothing has been touched: the process
    ends at once, with the exit code of one that a signal ended."""

    def __init__(self) -> None:
        self.signals = 0
        self._act: Act | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        # A mask is inherited: who started us may have held them back.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))

    def act(self, act: Act) -> None:
        """From now on call `act` with each signal and how many there were. It runs between any two lines of the main
        thread: it may only note and post."""
        self._act = act

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.signals += 1
        if self._act is None:
            os._exit(128 + number)
        self._act(signal.Signals(number), self.signals)
