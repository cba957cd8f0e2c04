"""Steps without I/O: a generator that yields what it asks for, is sent the answer or thrown the error, and returns.

The style is that of sans-I/O protocols such as h11. Who has the I/O performs the steps; a test performs them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

Asked = TypeVar("Asked")
Waits = TypeVar("Waits")
T = TypeVar("T")


def performing(
    steps: Generator[Asked, Any, T],
    call: Callable[[Asked], Generator[Waits, None, Any]],
    told: tuple[type[Exception], ...],
) -> Generator[Waits, None, T]:
    """Make the calls that the steps ask for, until they end, where a call may have to wait. The steps are told of
    exceptions of the kinds `told`; others end this."""
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            asked = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        answer = error = None
        try:
            answer = yield from call(asked)
        except told as said:
            # The frames of the call would keep alive what it had at hand, such as a client that the next step drops.
            error = said.with_traceback(None)


def perform(steps: Generator[Asked, Any, T], call: Callable[[Asked], Any], told: tuple[type[Exception], ...]) -> T:
    """The same where every call comes back with its answer."""

    def answered(asked: Asked) -> Generator[None, None, Any]:
        yield from ()  # it never waits
        return call(asked)

    try:
        next(performing(steps, answered, told))
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a call waited that may not")
