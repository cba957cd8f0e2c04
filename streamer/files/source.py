"""Reads rows of files, as far as it is allowed to, until the end."""

from __future__ import annotations

import secrets
import threading
import time

from streamer.core.pipeline.protocol import Assigned, EndReached, SourceFailed, Taken
from streamer.core.record import MicroBatch, Segment
from streamer.errors import StreamerError
from streamer.files.line import PARTITION, TOPIC, Line
from streamer.files.rows import Rows
from streamer.ports import Post, SoleSource

EPOCH = 1
LINE_OVERHEAD_BYTES = 1024


class LineSource(SoleSource):
    """`streamer.ports.Source` over `rows`, of which the first `done` are answered already."""

    def __init__(self, rows: Rows, post: Post, micro_batch_records: int, done: int = 0) -> None:
        self._rows = rows
        self._post = post
        self._most = micro_batch_records
        self._answered = done
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

    def close(self, timeout_s: float) -> None:
        """Stop reading; a read that blocks on a terminal ends with the process."""
        with self._news:
            self._closing = True
            self._news.notify()

    def _run(self) -> None:
        try:
            self._read()
        except StreamerError as error:
            self._post(SourceFailed(error.exit_code, str(error)))

    def _read(self) -> None:
        self._post(Assigned({(TOPIC, PARTITION): EPOCH}))
        number = self._rows.skip(self._answered)
        taken = taken_bytes = batches = 0
        while True:
            with self._news:
                while not self._closing and (taken >= self._granted or taken_bytes >= self._granted_bytes):
                    self._news.wait()
                if self._closing:
                    return
                most = min(self._granted - taken, self._most)
                most_bytes = self._granted_bytes - taken_bytes
            now_ms = int(time.time() * 1000)
            records = [
                Line(row, number, now_ms) for number, row in enumerate(self._rows.read(most, most_bytes), number)
            ]
            if not records:
                self._post(EndReached())
                return
            size_bytes = sum(len(record.row.value or b"") for record in records) + LINE_OVERHEAD_BYTES * len(records)
            number += len(records)
            taken += len(records)
            taken_bytes += size_bytes
            batches += 1
            segment = Segment(TOPIC, PARTITION, EPOCH, list(records), size_bytes=size_bytes)
            ids = secrets.randbits(192) | 1 << 191 | 1
            batch = MicroBatch(batches, [segment], ids >> 64, ids & (1 << 64) - 1, time.time_ns(), time.monotonic())
            self._post(Taken(batch))
