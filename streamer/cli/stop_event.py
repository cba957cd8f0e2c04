"""Signals for commands that run an event loop."""

from __future__ import annotations

import asyncio
import os
import signal

from streamer.errors import ExitCode
from streamer.stopping import Stopping


def stop_event(stopping: Stopping) -> asyncio.Event:
    """An event of the running loop that the first signal sets; the second ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def act(_: signal.Signals, count: int) -> None:
        if count > 1:
            os._exit(ExitCode.SECOND_SIGNAL)
        loop.call_soon_threadsafe(stop.set)

    stopping.act(act)
    return stop
