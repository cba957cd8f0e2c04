"""The worker's end of the socket: answers that are larger than the output topic takes end here, and many large ones go
in several frames."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import msgspec

from streamer.errors import Code, DataFailure
from streamer.inference.channel import Channel, Compute, Done, FromWorker, ToWorker

# The driver holds a frame and the answers in it at once: of a frame with 250 answers of 300 kB it took 137 MB.
FRAME_BYTES = 4_000_000


class WorkerChannel(Channel[ToWorker]):
    """Keeps to the limit of the newest `Compute`, which may be out of date: the driver looks at it once more before it
    believes that an answer is too large."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, ToWorker)
        self._answer_bytes = 0

    def receive(self) -> ToWorker | None:
        """The next message; None when the driver is gone."""
        message = super().receive()
        if isinstance(message, Compute):
            self._answer_bytes = message.answer_bytes
        return message

    def send(self, message: ToWorker | FromWorker) -> bool:
        """Blocks until the kernel has it all; False when the driver is gone."""
        if not isinstance(message, Done):
            return super().send(message)
        if self._answer_bytes:
            message = within(message, self._answer_bytes)
        return all(super(WorkerChannel, self).send(frame) for frame in frames(message))


def within(done: Done, limit_bytes: int) -> Done:
    """The same outcomes, with a failure for each answer of more than `limit_bytes`."""
    sizes = [len(output) if output is not None else 0 for output in done.outputs]
    if max(sizes, default=0) <= limit_bytes:
        return done
    failures = {index: _too_large(size, limit_bytes) for index, size in enumerate(sizes) if size > limit_bytes}
    outputs = [None if index in failures else output for index, output in enumerate(done.outputs)]
    return msgspec.structs.replace(done, outputs=outputs, failures={**done.failures, **failures})


def frames(done: Done) -> Iterator[Done]:
    """The same outcomes, in order, in frames of at most `FRAME_BYTES` or of one answer; what was measured of the batch
    as a whole stands in the last one."""
    first = size_bytes = 0
    for index, output in enumerate(done.outputs):
        output_bytes = len(output) if output is not None else 0
        if index > first and size_bytes + output_bytes > FRAME_BYTES:
            yield Done(**_columns(done, first, index))
            first, size_bytes = index, 0
        size_bytes += output_bytes
    yield msgspec.structs.replace(done, **_columns(done, first, len(done.numbers))) if first else done


def _columns(done: Done, first: int, end: int) -> dict[str, Any]:
    """What is of the answers from `first` up to `end`."""
    return {
        "numbers": done.numbers[first:end],
        "outputs": done.outputs[first:end],
        "tokens": done.tokens[first:end],
        "truncated": [index - first for index in done.truncated if first <= index < end],
        "failures": {index - first: failure for index, failure in done.failures.items() if first <= index < end},
        "measures": done.measures[first:end],
    }


def _too_large(size_bytes: int, limit_bytes: int) -> DataFailure:
    return DataFailure(
        Code.PUBLISH_TOO_LARGE,
        f"The answer has {size_bytes} bytes; the output topic takes {limit_bytes} in all: raise its max.message.bytes,"
        " or ask for a smaller output.",
    )
