"""Stores: written to Redis in the background, many keys at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from streamer.cache.clients import CONNECT_TIMEOUT_S
from streamer.cache.events import CacheEvent, OnEvent
from streamer.cache.gate import Gate
from streamer.cache.links import RedisLink
from streamer.core.record import Answer
from streamer.core.stored import Vault

MAX_WAITING_STORE_BYTES: Final = 8 << 20
ENTRY_BYTES: Final = 256  # a waiting key and answer beside its output: objects, key and list slot
MAX_CHUNK_KEYS: Final = 5_000
MAX_CHUNK_BYTES: Final = 4 << 20


class Stores:
    """One thread that writes; it never holds anybody up."""

    def __init__(self, link: RedisLink, vault: Vault, ttl_s: int, on_event: OnEvent) -> None:
        self._gate = Gate(link, "stores")
        self._vault = vault
        self._ttl_s = ttl_s
        self._on_event = on_event
        self._ready = threading.Condition()
        self._waiting: deque[tuple[list[tuple[bytes, Answer]], int]] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="cache-store", daemon=True)
        self._thread.start()

    def add(self, entries: list[tuple[bytes, Answer]]) -> None:
        size_bytes = sum([len(answer.output) for _, answer in entries]) + ENTRY_BYTES * len(entries)
        with self._ready:
            if not self._closed and self._waiting_bytes + size_bytes <= MAX_WAITING_STORE_BYTES:
                self._waiting.append((entries, size_bytes))
                self._waiting_bytes += size_bytes
                self._ready.notify()
                return
        self._on_event(CacheEvent.STORE_DROPPED, len(entries))

    def close(self, deadline: float) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._ready:
            dropped = sum(len(entries) for entries, _ in self._waiting)
            self._waiting.clear()
        self._gate.link.hang_up()
        self._thread.join(CONNECT_TIMEOUT_S)
        if dropped:
            self._on_event(CacheEvent.STORE_DROPPED, dropped)

    def _write_all(self) -> None:
        while True:
            with self._ready:
                while not self._waiting:
                    if self._closed:
                        return
                    self._ready.wait()
                entries, size_bytes = self._waiting.popleft()
                self._waiting_bytes -= size_bytes
            self._write(entries)

    def _write(self, entries: list[tuple[bytes, Answer]]) -> None:
        counts = dict.fromkeys((CacheEvent.STORED, CacheEvent.STORE_DROPPED, CacheEvent.STORE_FAILED), 0)
        for chunk in _chunks(self._vault.encode(entries)):
            if not self._gate.circuit.allows(time.monotonic()):
                continue
            try:
                self._gate.link.put(chunk, self._ttl_s)
                self._gate.succeeded()
                counts[CacheEvent.STORED] += len(chunk)
            except Exception as error:  # as with look-ups: an outage
                self._gate.link.hang_up()
                self._gate.failed(error)
                counts[CacheEvent.STORE_FAILED] += len(chunk)
        counts[CacheEvent.STORE_DROPPED] = len(entries) - sum(counts.values())
        for event, count in counts.items():
            if count:
                self._on_event(event, count)


def _chunks(entries: list[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """The entries in lists of at most `MAX_CHUNK_KEYS` keys and about `MAX_CHUNK_BYTES` bytes of values."""
    if len(entries) <= MAX_CHUNK_KEYS and sum([len(value) for _, value in entries]) <= MAX_CHUNK_BYTES:
        yield entries
        return
    chunk: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for entry in entries:
        if len(chunk) == MAX_CHUNK_KEYS or (chunk and size_bytes + len(entry[1]) > MAX_CHUNK_BYTES):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(entry)
        size_bytes += len(entry[1])
    if chunk:
        yield chunk
