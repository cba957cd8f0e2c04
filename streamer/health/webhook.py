"""Tells one URL of alarms, from a thread of its own: nobody waits for who is called."""

from __future__ import annotations

import logging
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final

_log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
PAUSES_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0)
"""Before each further attempt; after the last of them a call is given up."""
_MOST_WAITING: Final = 1000
_CLIENT_ERRORS: Final = range(400, 500)
_WORTH_TRYING: Final = (408, 425, 429)


class Webhook:
    """Calls in order, one at a time. `failed` is told of each call that is given up."""

    def __init__(self, url: str, failed: Callable[[], None], pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._url, self._failed, self._pauses_s = url, failed, pauses_s
        self._waiting: queue.Queue[bytes] = queue.Queue(_MOST_WAITING)
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="webhook", daemon=True).start()

    def call(self, body: bytes) -> None:
        """POST this JSON soon. Never blocks: with too many calls waiting this one is given up."""
        try:
            self._waiting.put_nowait(body)
        except queue.Full:
            self._failed()

    def close(self) -> None:
        """Give up what waits."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                body = self._waiting.get(timeout=0.5)
            except queue.Empty:
                continue
            if not self._delivered(body):
                self._failed()

    def _delivered(self, body: bytes) -> bool:
        for pause_s in (0.0, *self._pauses_s):
            if self._stop.wait(pause_s):
                return False
            headers = {"Content-Type": "application/json", "User-Agent": "streamer"}
            try:
                request = urllib.request.Request(self._url, body, headers, method="POST")
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    return True
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}"
                error.close()
                if error.code in _CLIENT_ERRORS and error.code not in _WORTH_TRYING:
                    _log.error("the webhook refused an alarm", extra={"data": {"reason": reason}})
                    return False
            except Exception as error:
                reason = type(error).__name__
            _log.warning("the webhook does not answer", extra={"data": {"reason": reason}})
        return False
