"""A way to Redis behind a circuit breaker that tells the log."""

from __future__ import annotations

import logging
import time

from streamer.cache.links import RedisLink
from streamer.core.circuit import Circuit, CircuitState

_log = logging.getLogger(__name__)


class Gate:
    """A circuit with its link: tells the log when use is suspended and resumed, and by what kind of error."""

    def __init__(self, link: RedisLink, use: str) -> None:
        self.link = link
        self.circuit = Circuit()
        self._use = use

    def succeeded(self) -> None:
        resumed = self.circuit.state is not CircuitState.CLOSED
        self.circuit.succeeded()
        if resumed:
            _log.info("shared cache: %s resumed", self._use, extra={"data": {"address": self.link.address}})

    def failed(self, error: Exception | None = None) -> None:
        before = self.circuit.state
        self.circuit.failed(time.monotonic())
        if before is CircuitState.CLOSED and self.circuit.state is CircuitState.OPEN:
            cause = "time limit passed" if error is None else type(error).__name__
            data = {"address": self.link.address, "error": cause}
            _log.warning("shared cache: %s suspended until it answers again", self._use, extra={"data": data})
