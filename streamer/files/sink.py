"""Writes one line per input line, in their order: the result, or what is wrong with the line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import BinaryIO

import msgspec

from streamer.core.encoder import Encoder
from streamer.core.pipeline.protocol import ModelCard, Run, Settle, Settled, SinkFailed
from streamer.core.record import Skipped
from streamer.errors import DataFailure, ExitCode
from streamer.ports import Post


class LineSink:
    """`streamer.ports.Sink` over a stream. `written` and `failed` count lines and may be read from any thread."""

    def __init__(self, stream: BinaryIO, make_encoder: Callable[[ModelCard], Encoder], post: Post) -> None:
        self.written = 0
        self.failed = 0
        self._stream = stream
        self._make_encoder = make_encoder
        self._post = post
        self._encoder: Encoder | None = None
        self._plans: SimpleQueue[Settle | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lines-out", daemon=True)

    def open(self, card: ModelCard) -> None:
        """Get ready for this model's outcomes."""
        self._encoder = self._make_encoder(card)
        self._thread.start()

    def wait_turn(self, timeout_s: float) -> None:
        """A file takes what it is given at once."""

    def look(self) -> None:
        """A line may be of any size."""

    def settle(self, plan: Settle) -> None:
        """Queue a plan."""
        self._plans.put(plan)

    def close(self, timeout_s: float) -> None:
        """Write what is queued, then end."""
        self._plans.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (plan := self._plans.get()) is not None:
                for run in plan.runs:
                    self._write(run)
                self._stream.flush()
                self._post(Settled(plan.settle))
        except BrokenPipeError:
            self._post(SinkFailed(ExitCode.DONE, ""))
        except OSError as error:
            self._post(SinkFailed(ExitCode.DEPENDENCY, f"the output can't be written: {error.strerror}"))

    def _write(self, run: Run) -> None:
        assert self._encoder is not None
        outputs = iter(self._encoder.encode(run, int(time.time() * 1000)))
        outcomes = run.segment.outcomes[run.first : run.last]
        lines = []
        for record, outcome in zip(run.segment.records[run.first : run.last], outcomes, strict=True):
            if isinstance(outcome, Skipped):
                continue
            _, _, _, value, _ = next(outputs)
            if isinstance(outcome, DataFailure):
                self.failed += 1
                value = _failure(record.offset() + 1, outcome)
            lines.append((value or b"") + b"\n")
        self._stream.write(b"".join(lines))
        self.written += len(lines)


def _failure(line: int, failure: DataFailure) -> bytes:
    error = {"code": failure.code.value, "message": failure.message, "exception": failure.exception}
    return msgspec.json.encode({"line": line, "error": error})
