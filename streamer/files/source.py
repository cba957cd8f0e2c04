"""Reads lines from a stream, as far as it is allowed to, until the end."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from io import BufferedReader

from streamer.core.pipeline.protocol import Assigned, EndReached, SourceFailed, Taken
from streamer.core.record import MicroBatch, Segment, TopicPartition
from streamer.errors import ExitCode
from streamer.files.line import PARTITION, TOPIC, Line
from streamer.ports import Post

EPOCH = 1
LINE_OVERHEAD_BYTES = 1024
CHUNK_BYTES = 1 << 16


class LineSource:
    """`streamer.ports.Source` over the lines of `stream`.

    Blank lines are left out; `wrap` turns a line into a value.
    """

    def __init__(
        self,
        stream: BufferedReader,
        post: Post,
        micro_batch_records: int = 2000,
        wrap: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._stream = stream
        self._post = post
        self._most = micro_batch_records
        self._wrap = wrap
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._ended = False
        self._granted = 0
        self._granted_bytes = 0
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def grant(self, records: int, size_bytes: int) -> None:
        """Allow to have read this much in all."""
        with self._news:
            self._granted, self._granted_bytes = records, size_bytes
            self._news.notify()

    def done(self, batch: MicroBatch) -> None:
        """Lines are not handed over with care."""

    def release(self, epoch: int) -> None:
        """Nothing is ever revoked."""

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """Nothing is ever read twice: the sink does not fail halfway."""

    def absolve(self) -> None:
        """Nobody is blamed."""

    def close(self, timeout_s: float) -> None:
        """Stop reading; a read that blocks on a terminal ends with the process."""
        with self._news:
            self._closing = True
            self._news.notify()

    def _run(self) -> None:
        self._post(Assigned({(TOPIC, PARTITION): EPOCH}))
        taken = taken_bytes = number = batches = 0
        try:
            while True:
                with self._news:
                    while not self._closing and (taken >= self._granted or taken_bytes >= self._granted_bytes):
                        self._news.wait()
                    if self._closing:
                        return
                    most = min(self._granted - taken, self._most)
                    most_bytes = self._granted_bytes - taken_bytes
                records, size_bytes, number = self._read(most, most_bytes, number)
                if not records:
                    self._post(EndReached())
                    return
                taken += len(records)
                taken_bytes += size_bytes
                batches += 1
                segment = Segment(TOPIC, PARTITION, EPOCH, list(records), size_bytes=size_bytes)
                ids = secrets.randbits(192) | 1 << 191 | 1
                batch = MicroBatch(batches, [segment], ids >> 64, ids & (1 << 64) - 1, time.time_ns(), time.monotonic())
                self._post(Taken(batch))
        except OSError as error:
            self._post(SourceFailed(ExitCode.DEPENDENCY, f"the input can't be read: {error.strerror}"))

    def _read(self, most: int, most_bytes: int, number: int) -> tuple[list[Line], int, int]:
        """The lines that are there, waiting only for the first: one slow line does not hold those before it."""
        records: list[Line] = []
        size_bytes = 0
        while not records and self._fill():
            now_ms = int(time.time() * 1000)
            while self._lines and len(records) < most and size_bytes < most_bytes:
                value = self._lines.popleft().rstrip(b"\r")
                if value:
                    records.append(Line(self._wrap(value) if self._wrap else value, number, now_ms))
                    size_bytes += len(value) + LINE_OVERHEAD_BYTES
                number += 1
        return records, size_bytes, number

    def _fill(self) -> bool:
        """Read until there is a whole line; False at the end."""
        while not self._lines and not self._ended:
            chunk = self._stream.read1(CHUNK_BYTES)
            self._ended = not chunk
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            if self._ended and self._rest:
                whole.append(self._rest)
            self._lines.extend(whole)
        return bool(self._lines)
