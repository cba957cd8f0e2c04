"""The worker's end of the socket: answers that are larger than the output topic takes end here."""

from __future__ import annotations

import socket

import msgspec

from streamer.errors import Code, DataFailure
from streamer.inference.channel import Channel, Compute, Done, FromWorker, ToWorker


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
        if isinstance(message, Done) and self._answer_bytes:
            message = within(message, self._answer_bytes)
        return super().send(message)


def within(done: Done, limit_bytes: int) -> Done:
    """The same outcomes, with a failure for each answer of more than `limit_bytes`."""
    sizes = [len(output) if output is not None else 0 for output in done.outputs]
    if max(sizes, default=0) <= limit_bytes:
        return done
    failures = {index: _too_large(size, limit_bytes) for index, size in enumerate(sizes) if size > limit_bytes}
    outputs = [None if index in failures else output for index, output in enumerate(done.outputs)]
    return msgspec.structs.replace(done, outputs=outputs, failures={**done.failures, **failures})


def _too_large(size_bytes: int, limit_bytes: int) -> DataFailure:
    return DataFailure(
        Code.PUBLISH_TOO_LARGE,
        f"The answer has {size_bytes} bytes; the output topic takes {limit_bytes} in all: raise its max.message.bytes,"
        " or ask for a smaller output.",
    )
