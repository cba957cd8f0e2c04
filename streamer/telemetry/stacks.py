"""Where every thread stands, written once when a loop of ours stands still: what to look at before a restart."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable

EVERY_S = 2.0
DEEPEST = 12  # places of a thread, from the innermost out

log = logging.getLogger(__name__)


def stacks() -> dict[str, list[str]]:
    """Every thread's places, the innermost first: file, line and function, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): [
            f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
            for frame, line in list(traceback.walk_stack(top))[:DEEPEST]
        ]
        for ident, top in sys._current_frames().items()
    }


class StandingWatch:
    """Asks again and again what stands, on a thread of its own; writes the stacks when something begins to."""

    def __init__(self, standing: Callable[[], list[str]], every_s: float = EVERY_S) -> None:
        self._standing = standing
        self._every_s = every_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standing-watch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        stood = False
        while not self._closing.wait(self._every_s):
            reasons = self._standing()
            if reasons and not stood:
                log.error("a loop of this process is stuck", extra={"data": {"reasons": reasons}})
                for name, places in stacks().items():
                    log.error("where a thread stands", extra={"data": {"thread": name, "places": places}})
            stood = bool(reasons)
