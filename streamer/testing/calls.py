"""Functions on their way to the source's task, as `kafka/calls` has them on their way to its thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from streamer.testing.clock import Wait
from streamer.testing.log_error import LogError


@dataclass(slots=True, eq=False)
class Call:
    """A function on its way, and what came of it; one that takes time is a generator. `then` is called after."""

    function: Callable[[], Any]
    then: Callable[[], object]
    done: bool = False
    result: Any = None
    error: LogError | None = None

    def fail(self) -> None:
        """Nobody will run it: its owner has ended."""
        self.done, self.error = True, LogError("_DESTROY")


class Calls:
    """The queue; its owner serves it, also while it waits for something."""

    def __init__(self) -> None:
        self._waiting: deque[Call] = deque()

    def add(self, call: Call) -> None:
        """Let it run at the next `serve`."""
        self._waiting.append(call)

    def serve(self) -> Generator[Wait, None, None]:
        """Run what waits."""
        while self._waiting:
            call = self._waiting.popleft()
            try:
                call.result = call.function()
                if isinstance(call.result, Generator):
                    call.result = yield from call.result
            except LogError as error:
                call.error = error
            call.done = True
            call.then()

    def refuse(self) -> None:
        """Let what waits fail."""
        while self._waiting:
            call = self._waiting.popleft()
            call.fail()
            call.then()
