"""What becomes of an event, for a caller in the same process: exactly what a topic's readers would get."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamer.core.events.codec import event_id
from streamer.core.output import Output
from streamer.core.pipeline.protocol import Finish, ModelCard, Run, Settle, Settled
from streamer.core.record import Headers, Record, TextEvent
from streamer.core.record import Skipped as SkippedRecord
from streamer.core.results.encoder import Encoder
from streamer.errors import DataFailure, ExitCode, HaltedError, ModelError, StreamerError
from streamer.ports import Post

_SHOWN_CHARACTERS = 100


class Published(msgspec.Struct, frozen=True):
    """A record as it is written to the output or the dead-letter topic. Partition -1 is the producer's choice, by the
    key."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Result(msgspec.Struct, frozen=True):
    """An event's answer. `offset` counts the events from 0; `published` is the record that readers would get."""

    offset: int
    id: str
    output: dict[str, Any]
    truncated: bool
    cached: bool
    metadata: dict[str, Any] | None
    published: Published

    def __repr__(self) -> str:
        return f"Result(offset={self.offset}, id={self.id!r}, output={_short(repr(self.output))})"


class DeadLetter(msgspec.Struct, frozen=True):
    """Why an event has no answer: `code` is one of schemas/codes.json, `exception` the name of the exception's class.

    `value` is the event as it came. `error` is the model's own exception, with its traceback, where the model ran in
    this process.
    """

    offset: int
    id: str
    code: str
    message: str
    exception: str
    value: bytes | None
    published: Published
    error: BaseException | None = None

    def __repr__(self) -> str:
        return f"DeadLetter(offset={self.offset}, id={self.id!r}, code={self.code!r}, message={self.message!r})"


class Skipped(msgspec.Struct, frozen=True):
    """An event that ends without result and dead letter: `reason` is `tombstone` or `replay` (meant for another
    pipeline)."""

    offset: int
    reason: str


class DeadLetterError(StreamerError):
    """An event has no answer. `letter` says why."""

    exit_code = ExitCode.SOME_FAILED

    def __init__(self, letter: DeadLetter) -> None:
        super().__init__(f"event {letter.offset} ({letter.id}) has no answer: {letter.code}: {letter.message}")
        self.letter = letter
        self.code = letter.code


Outcome = Result | DeadLetter | Skipped
Causes = Mapping[int, tuple[DataFailure, BaseException]]


class OutcomeSink:
    """`streamer.ports.Sink` that hands outcomes over, in the order of the events, on the driver's thread."""

    def __init__(
        self,
        make_encoder: Callable[[ModelCard], Encoder],
        post: Post,
        deliver: Callable[[list[Outcome]], object],
        causes: Causes | None = None,
    ) -> None:
        self._make_encoder = make_encoder
        self._post = post
        self._deliver = deliver
        self._causes = causes if causes is not None else {}
        self._encoder: Encoder | None = None

    def open(self, card: ModelCard) -> None:
        """Get ready for this model's outcomes."""
        self._encoder = self._make_encoder(card)

    def wait_turn(self, timeout_s: float) -> None:
        """It is always ready."""

    def look(self) -> None:
        """Its limits never change."""

    def settle(self, plan: Settle) -> None:
        """Hand over what the plan holds, encoded as for a topic and decoded again."""
        for run in plan.runs:
            self._deliver(self._outcomes(run))
        self._post(Settled(plan.settle))

    def close(self, timeout_s: float) -> None:
        """Nothing is kept."""

    def _outcomes(self, run: Run) -> list[Outcome]:
        assert self._encoder is not None
        outputs = iter(self._encoder.encode(run, int(time.time() * 1000)))
        segment, chosen = run.segment, slice(run.first, run.last)
        found: list[Outcome] = []
        each = zip(segment.records[chosen], segment.events[chosen], segment.outcomes[chosen], strict=True)
        for record, event, outcome in each:
            if isinstance(outcome, SkippedRecord):
                found.append(Skipped(record.offset(), outcome.reason))
            elif isinstance(outcome, DataFailure):
                found.append(self._letter(record, event, outcome, next(outputs)))
            else:
                found.append(_result(record, next(outputs)))
        return found

    def _letter(self, record: Record, event: TextEvent | None, failure: DataFailure, output: Output) -> DeadLetter:
        _, error = self._causes.get(id(failure), (None, None))
        return DeadLetter(
            offset=record.offset(),
            id=event_id(record, event),
            code=failure.code.value,
            message=failure.message,
            exception=failure.exception,
            value=record.value(),
            published=Published(*output),
            error=error,
        )


class _Written(msgspec.Struct):
    """What we read of a result's value."""

    id: str
    output: dict[str, Any]
    truncated: bool
    cached: bool
    metadata: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Written).decode


def _result(record: Record, output: Output) -> Result:
    written = _decode(output[3] or b"")
    return Result(
        record.offset(),
        written.id,
        written.output,
        written.truncated,
        written.cached,
        written.metadata,
        Published(*output),
    )


def ended(finish: Finish, *, loaded: bool) -> StreamerError:
    """The error that a pipeline ended with: the model's, unless it was `loaded`."""
    error = HaltedError(finish.message) if loaded else ModelError(finish.message)
    error.exit_code = finish.exit_code
    return error


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
