"""Writes one line for each row, in their order: the result, or what is wrong with the row."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, BinaryIO, Protocol

import msgspec

from streamer.core.pipeline.protocol import ModelCard, Run, Settle, Settled, SinkFailed
from streamer.core.record import TextEvent
from streamer.core.results.encoder import Encoder
from streamer.errors import DataFailure, ExitCode
from streamer.files.job import Job
from streamer.files.line import Line
from streamer.ports import Post

NOTE_EVERY_S = 0.5
LARGEST_READ_AGAIN_BYTES = 1 << 20


class Target(Protocol):
    """Where lines go. Failed rows' are among the results unless they have a place of their own: `own_errors`."""

    own_errors: bool

    def begin(self, card: ModelCard) -> None:
        """The model is there. Raises UsageError where its answers may not go where those before went."""

    def write(self, results: bytes, errors: bytes) -> None:
        """Lines of results and failed rows, in their order; what is written is out. Raises OSError."""

    def reached(self, rows: int, failed: int) -> None:
        """All rows before this one are written."""


class Stream:
    """A stream that takes all lines, such as standard output; `errors` takes those of failed rows, where given."""

    def __init__(self, stream: BinaryIO, errors: BinaryIO | None = None) -> None:
        self._stream = stream
        self._errors = errors
        self.own_errors = errors is not None

    def begin(self, card: ModelCard) -> None:
        """It takes any model's."""

    def write(self, results: bytes, errors: bytes) -> None:
        self._stream.write(results)
        self._stream.flush()
        if self._errors is not None:
            self._errors.write(errors)
            self._errors.flush()

    def reached(self, rows: int, failed: int) -> None:
        """Nobody goes on from here."""


class JobFiles:
    """The files of a job that goes on where it was killed. `identity` is what has to be the same then."""

    def __init__(self, job: Job, identity: dict[str, Any]) -> None:
        self._job = job
        self._identity = identity
        self._streams: list[BinaryIO] = []
        self._noted_at = 0.0
        self._reached: tuple[int, int, list[int]] | None = None
        self._failed_before = 0
        self.own_errors = job.errors is not None

    def begin(self, card: ModelCard) -> None:
        model = {"model": card.name, "revision": card.revision, "dtype": card.dtype, "backend": card.backend}
        self._streams = self._job.begin({**self._identity, **model})
        assert self._job.note is not None
        self._failed_before = self._job.note.failed

    def write(self, results: bytes, errors: bytes) -> None:
        for stream, lines in zip(self._streams, (results, errors), strict=False):
            stream.write(lines)
            stream.flush()

    def reached(self, rows: int, failed: int) -> None:
        # As long as the files are now: a write that fails later may leave half a line.
        sizes = [stream.tell() for stream in self._streams]
        self._reached = rows, self._failed_before + failed, sizes
        if time.monotonic() - self._noted_at > NOTE_EVERY_S:
            self._noted_at = time.monotonic()
            self._job.reached(*self._reached)

    def close(self) -> None:
        """Note how far it came, so that the next run goes on from there."""
        if self._reached is not None:
            with suppress(OSError):  # a full disk: the previous note counts, and what it does not count is redone
                self._job.reached(*self._reached)

    def end(self) -> int:
        """All rows are written: the output gets its name, and its format. Returns how many rows failed in all runs."""
        self.close()
        self._job.end(self._streams)
        assert self._job.note is not None
        return self._job.note.failed


class LineSink:
    """`streamer.ports.Sink` over a target. `written`, `failed` and `codes` count rows, and `opened` is when the model
    was ready; all may be read from any thread. `files` are the names of the files, where there are several."""

    def __init__(
        self,
        target: Target,
        make_encoder: Callable[[ModelCard], Encoder],
        post: Post,
        files: tuple[str, ...] = (),
    ) -> None:
        self.opened: float | None = None
        self.written = 0
        self.failed = 0
        self.cached = 0
        self.codes: Counter[str] = Counter()
        self._target = target
        self._files = [msgspec.json.encode(name) for name in files]
        self._make_encoder = make_encoder
        self._post = post
        self._encoder: Encoder | None = None
        self._plans: SimpleQueue[Settle | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lines-out", daemon=True)

    def open(self, card: ModelCard) -> None:
        """Get ready for this model's outcomes. Raises UsageError where those before were another job's."""
        self.opened = time.monotonic()
        self._target.begin(card)
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
                self._post(Settled(plan.settle))
        except BrokenPipeError:
            self._post(SinkFailed(ExitCode.DONE, ""))
        except OSError as error:
            message = f"the output can't be written ({error.strerror}): make room, then give the same command again"
            self._post(SinkFailed(ExitCode.DEPENDENCY, message))

    def _write(self, run: Run) -> None:
        assert self._encoder is not None
        outputs = iter(self._encoder.encode(run, int(time.time() * 1000)))
        segment, chosen = run.segment, slice(run.first, run.last)
        results: list[bytes] = []
        errors: list[bytes] = []
        each = zip(segment.records[chosen], segment.events[chosen], segment.outcomes[chosen], strict=True)
        for record, event, outcome in each:
            _, _, _, value, _ = next(outputs)
            assert isinstance(record, Line)
            if isinstance(outcome, DataFailure):
                failure = record.row.failure or outcome
                self.codes[failure.code.value] += 1
                line = b"{%b,%b" % (self._place(record), _failure(record, event, failure)[1:])
                (errors if self._target.own_errors else results).append(line)
            else:
                self.cached += outcome is not None and getattr(outcome, "cached", False)
                results.append(b"{%b,%b" % (self._place(record), (value or b"{}")[1:]))
        self._target.write(b"".join(line + b"\n" for line in results), b"".join(line + b"\n" for line in errors))
        self.written += run.last - run.first
        self.failed = sum(self.codes.values())
        self._target.reached(segment.records[run.last - 1].offset() + 1, self.failed)

    def _place(self, record: Line) -> bytes:
        file = b'"file":%b,' % self._files[record.row.file] if self._files else b""
        return b'%b"line":%d' % (file, record.row.line)


class _Named(msgspec.Struct):
    """What is read of an event that was refused."""

    id: str | int | None = None


def _failure(record: Line, event: TextEvent | None, failure: DataFailure) -> bytes:
    given = event.id if event is not None else None
    if event is None and len(record.value() or b"") <= LARGEST_READ_AGAIN_BYTES:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            given = msgspec.json.decode(record.value() or b"", type=_Named).id
    error = {"code": failure.code.value, "message": failure.message, "exception": failure.exception}
    return msgspec.json.encode({**({} if given is None else {"id": given}), "error": error})
