"""One worker as the core sees it: where its process is, what it holds, and what it has a lease for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from streamer.core.pipeline.flights import Flight


class State(Enum):
    """Where a worker's process is."""

    STARTING = auto()
    READY = auto()
    KILLED = auto()  # by us; its end is not reported yet
    WAITING = auto()  # to be started at `restart_at`


@dataclass(slots=True)
class Worker:
    """One worker and what it holds. `announced` is the forward batch that it runs now, `encoding` what it encodes
    beside that; each has its deadline. `late` is what was under way when it passed one."""

    number: int
    state: State = State.WAITING
    restart_at: float = 0.0
    held: dict[int, Flight] = field(default_factory=dict)
    announced: list[int] = field(default_factory=list)
    deadline: float = 0.0
    encoding: list[int] = field(default_factory=list)
    encode_deadline: float = 0.0
    late: list[int] = field(default_factory=list)
    holding: str = ""
    """What outside of it is waited for."""
    alone: bool = False
    served: bool = False
    """Whether this process was ready."""
    fruitless_starts: int = 0
    failed_starts: int = 0

    def overdue(self, now: float) -> list[int] | None:
        """What is past its lease; None while nothing is, and an empty list where it should have begun something."""
        if not self.held:
            return None
        if self.announced and now > self.deadline:
            return self.announced
        if self.encoding and now > self.encode_deadline:
            return self.encoding
        idle = not (self.announced or self.encoding)
        return [] if idle and now > max(self.deadline, self.encode_deadline) else None

    def room(self, queue: int) -> bool:
        """Whether more work may be queued at it, `queue` being the most computations that it may hold."""
        return self.state is State.READY and not self.alone and len(self.held) < queue
