"""What a source over the in-memory log owns: the steps of `core.membership`, run by the source's task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from streamer.core.membership import (
    Ask,
    Asked,
    Commit,
    Committed,
    Marks,
    Membership,
    Post,
    ReadFrom,
    Serve,
    Starts,
    Steps,
)
from streamer.core.record import TopicPartition
from streamer.core.settle.calls import Act, Failed
from streamer.core.steps import performing
from streamer.ports import Post as Tell
from streamer.testing.clock import ManualClock, Wait
from streamer.testing.group import Group, GroupMetadata
from streamer.testing.log import MemoryLog
from streamer.testing.log_error import LogError

RETRY_S = 0.05

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Call:
    """A function on its way, and what came of it; one that takes time is a generator. `then` is called after."""

    function: Callable[[], Any]
    then: Callable[[], object]
    done: bool = False
    result: Any = None
    error: LogError | None = None

    def fail(self) -> None:
        """Fail, since its owner has ended and nobody will run it."""
        self.done, self.error = True, LogError("_DESTROY")


class Calls:
    """Functions on their way to the source's task, as to the real one's thread; it serves them also while it waits for
    something."""

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


class MemoryAssignment:
    """Makes the calls that `ours` asks for. `metadata` says who we are in the group now, `changed` is called whenever
    what we own has changed, `wake` makes the source's task go on."""

    def __init__(
        self,
        ours: Membership,
        log: MemoryLog,
        group: Group,
        calls: Calls,
        post: Tell,
        clock: ManualClock,
        *,
        metadata: Callable[[], GroupMetadata],
        changed: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self.ours = ours
        self._log = log
        self._group = group
        self._calls = calls
        self._post = post
        self._clock = clock
        self._metadata = metadata
        self._changed = changed
        self._wake = wake

    def release(self, epoch: int) -> None:
        """The core lets these revoked partitions go."""
        self.ours.release(epoch)
        self._wake()

    def perform(self, steps: Steps[T]) -> Generator[Wait, None, T]:
        """Make the calls that the steps ask for, until they end."""
        return (yield from performing(steps, self._call, (Failed,)))

    def _call(self, asked: Asked) -> Generator[Wait, None, Any]:
        match asked:
            case Ask.NOW:
                return self._clock.now
            case Ask.CLOSING:
                return False  # whoever closes ends the task
            case Ask.MEMBER:
                return self._metadata().member
            case Ask.PUBLISH:
                self._changed()
            case Post():
                self._post(asked.fact)
            case Starts():
                return (yield from self._starts(asked.keys))
            case Committed():
                return self._committed(asked.keys)
            case ReadFrom():
                pass  # the source reads from what was reached
            case Commit():
                with suppress(LogError):
                    self._commit(asked.marks)
            case Serve():
                self._clock.later(asked.seconds, self._wake)
                yield None
                yield from self._calls.serve()
            case _:
                raise AssertionError(f"nothing here is asked for {asked}")
        return None

    def _starts(self, keys: list[TopicPartition]) -> Generator[Wait, None, tuple[Marks, list[TopicPartition]]]:
        while True:
            try:
                committed = self._committed(keys)
                break
            except Failed:
                yield RETRY_S  # a transaction of the partitions' earlier owner is open
        fresh = [key for key in keys if committed[key][0] < 0]
        return committed | {key: (self._log.start_offset(key), "") for key in fresh}, fresh

    def _committed(self, keys: list[TopicPartition]) -> Marks:
        try:
            offsets = self._group.committed(keys)
        except LogError as error:
            raise Failed(Act.RETRY, error.code) from None
        return {key: (offsets.get(key, -1), self._group.notes.get(key, "")) for key in keys}

    def _commit(self, marks: Marks) -> None:
        offsets = {key: offset for key, (offset, _) in marks.items()}
        self._group.commit(offsets, self._metadata(), {key: note for key, (_, note) in marks.items()})
