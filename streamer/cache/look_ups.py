"""Look-ups: asked of Redis one after the other, each answered in time."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from streamer.cache.clients import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from streamer.cache.events import CacheEvent, OnEvent
from streamer.cache.gate import Gate
from streamer.cache.links import RedisLink
from streamer.core.circuit import CircuitState
from streamer.core.fingerprint import KEY_BYTES
from streamer.core.pipeline.protocol import CacheAnswered
from streamer.core.record import Answer
from streamer.core.stored import Vault
from streamer.ports import Post

MAX_WAITING_LOOK_UPS: Final = 32


@dataclass(slots=True, eq=False)
class _LookUp:
    number: int
    keys: list[bytes]
    deadline: float


class LookUps:
    """Two threads: one asks Redis, the other answers for it when the time is up (and hangs up on it)."""

    def __init__(self, link: RedisLink, vault: Vault, post: Post, timeout_s: float, on_event: OnEvent) -> None:
        self._gate = Gate(link, "look-ups")
        self.circuit = self._gate.circuit
        self._vault = vault
        self._post = post
        self._timeout_s = timeout_s
        self._on_event = on_event
        self._lock = threading.Lock()
        self._to_ask = threading.Condition(self._lock)
        self._to_watch = threading.Condition(self._lock)
        self._open: dict[int, _LookUp] = {}  # in the order of their deadlines; whoever takes one out answers it
        self._waiting: deque[_LookUp] = deque()
        self._asked: _LookUp | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=run, name=f"cache-{name}", daemon=True)
            for name, run in (("look-up", self._ask_all), ("deadline", self._watch))
        ]
        for thread in self._threads:
            thread.start()

    def add(self, number: int, keys: list[bytes]) -> None:
        with self._lock:
            usable = self.circuit.state is CircuitState.CLOSED and not self._closed
            if usable and keys and len(self._open) < MAX_WAITING_LOOK_UPS:
                look_up = _LookUp(number, keys, time.monotonic() + self._timeout_s)
                if not self._open:
                    self._to_watch.notify()
                self._open[number] = look_up
                self._waiting.append(look_up)
                self._to_ask.notify()
                return
        self._miss(number, len(keys))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            left = self._take_all()
            self._to_ask.notify()
            self._to_watch.notify()
        self._gate.link.hang_up()
        for look_up in left:
            self._miss(look_up.number, len(look_up.keys))
        for thread in self._threads:
            thread.join(CONNECT_TIMEOUT_S + READ_TIMEOUT_S)
        self._gate.link.hang_up()

    def _take_all(self) -> list[_LookUp]:
        left = list(self._open.values())
        self._open.clear()
        self._waiting.clear()
        return left

    def _miss(self, number: int, keys: int) -> None:
        self._count(CacheEvent.UNAVAILABLE, keys)
        self._post(CacheAnswered(number, [None] * keys))

    def _count(self, event: CacheEvent, keys: int) -> None:
        if keys:
            self._on_event(event, keys)

    def _ask_all(self) -> None:
        while True:
            with self._lock:
                probe = False
                while not (self._waiting or probe or self._closed):
                    suspended = self.circuit.state is CircuitState.OPEN
                    self._to_ask.wait(max(0.0, self.circuit.probe_at - time.monotonic()) if suspended else None)
                    probe = suspended and self.circuit.allows(time.monotonic())
                if self._closed:
                    return
                look_up = None if probe else self._waiting.popleft()
                if look_up is not None and look_up.number not in self._open:
                    continue
                self._asked = look_up
            self._ask(look_up)

    def _ask(self, look_up: _LookUp | None) -> None:
        """Ask Redis for the keys of a look-up; without one, for a key that is not there: the probe."""
        keys = [bytes(KEY_BYTES)] if look_up is None else look_up.keys
        failure: Exception | None = None
        answers: list[Answer | None] = []
        absent = 0
        try:
            values = self._gate.link.get(keys)
            answers = self._vault.decode(keys, values)
            absent = values.count(None)
        except Exception as error:  # whatever library, server or wire come up with is an outage
            failure = error
            # What else may lie in this connection's buffers belongs to nobody. And behind one address another server
            # may have taken over from the one that refuses.
            self._gate.link.hang_up()
        with self._lock:
            self._asked = None
            in_time = look_up is None or self._open.pop(look_up.number, None) is not None
            left = []
            if failure is not None and in_time:
                self._gate.failed(failure)
                if self.circuit.state is CircuitState.OPEN:
                    left = self._take_all()
            elif in_time:
                self._gate.succeeded()
        if look_up is not None and in_time:
            if failure is None:
                misses = answers.count(None)
                self._count(CacheEvent.HIT, len(keys) - misses)
                self._count(CacheEvent.MISS, absent)
                self._count(CacheEvent.REJECTED, misses - absent)
                self._post(CacheAnswered(look_up.number, answers))
            else:
                self._miss(look_up.number, len(keys))
        for other in left:
            self._miss(other.number, len(other.keys))

    def _watch(self) -> None:
        while True:
            with self._lock:
                first = next(iter(self._open.values()), None)
                if self._closed:
                    return
                if first is None:
                    self._to_watch.wait()
                    continue
                now = time.monotonic()
                if now < first.deadline:
                    self._to_watch.wait(first.deadline - now)
                    continue
                late = [self._open.pop(first.number)]
                if self._asked is first:
                    self._gate.failed()
                    self._gate.link.hang_up()
                    if self.circuit.state is CircuitState.OPEN:
                        late += self._take_all()
            for look_up in late:
                self._miss(look_up.number, len(look_up.keys))
