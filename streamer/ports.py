"""The seams: what the driver needs from the world. Each adapter posts its facts to the driver's inbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamer.core.pipeline.protocol import Input, ModelCard, Settle, Work
from streamer.core.record import Answer, MicroBatch, TopicPartition

Post = Callable[[Input], None]


class Source(Protocol):
    """Takes micro-batches from the input topics; owns the group membership. All methods return at once."""

    def start(self) -> None:
        """Join the group; from now on `Assigned`, `Taken`, `Revoking`, `Lost` are posted."""

    def grant(self, records: int, size_bytes: int) -> None:
        """Allow to have taken this much in all since the start: backpressure. A long hold pauses the partitions."""

    def done(self, batch: MicroBatch) -> None:
        """All of this micro-batch is durable or dropped."""

    def release(self, epoch: int) -> None:
        """Answer to `Revoking(epoch)`."""

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop what was fetched and read again from the committed offsets, under a new epoch (posted as `Assigned`)."""

    def mark_clean_end(self) -> None:
        """This process ends in order, and no plan is under way: its end says nothing against the records in its
        hands. Comes before `close`, if at all."""

    def close(self, timeout_s: float) -> None:
        """Leave the group. Waits up to `timeout_s`."""


class SoleSource:
    """The calls of a `Source` that only one with rivals has to heed: what nobody else reads is never revoked or read
    twice, and its records are never to blame."""

    def done(self, batch: MicroBatch) -> None:
        """Nobody asks how far it came."""

    def release(self, epoch: int) -> None:
        """Nothing was asked for."""

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """No plan is ever rolled back."""

    def mark_clean_end(self) -> None:
        """No record is blamed for the end of a process."""


class Sink(Protocol):
    """Makes outcomes and offsets durable together; one plan at a time, in the order of the calls."""

    def open(self, card: ModelCard) -> None:
        """Get ready for this model's outcomes; what an earlier owner of our slot left open is ended. Waits for it.

        Raises DependencyError when the brokers can't be reached, ConfigurationError when we lack a right.
        """

    def wait_turn(self, timeout_s: float) -> None:
        """Wait while the sink computes rather than waits. Python runs one thread at a time: the driver's work is free
        while the sink waits for the brokers, and takes turns with the sink's while it does not."""

    def settle(self, plan: Settle) -> None:
        """Ends in exactly one `Settled` or `Unsettled` of the same number, or in `SinkFailed`."""

    def look(self) -> None:
        """Look at how large a result the output takes; posts `OutputLimit`."""

    def close(self, timeout_s: float) -> None:
        """Finish the plan under way, then close."""


class Cache(Protocol):
    """Earlier answers, shared between processes. Never fails, never blocks the caller."""

    def look_up(self, lookup: int, keys: list[bytes]) -> None:
        """Ends in one `CacheAnswered` of the same number; within the cache's time limit also when it is down."""

    def store(self, entries: list[tuple[bytes, Answer]]) -> None:
        """Write when it can; drop (and count) when it cannot."""

    @property
    def available(self) -> bool:
        """Whether it is asked now, rather than suspended after failures."""
        ...

    def close(self, timeout_s: float) -> None: ...


class Workers(Protocol):
    """The processes that run the model. Numbers 0 to n-1 are stable; a restarted worker keeps its number."""

    def start(self, worker: int) -> None:
        """Spawn; posts `WorkerReady`, or `WorkerLost` when it could not be started."""

    def send(self, worker: int, work: Work) -> None:
        """Queue work; never blocks. Posts `ForwardStarted` and `ForwardDone` for it, or `WorkerLost`."""

    def kill(self, worker: int) -> None:
        """SIGKILL; posts `WorkerLost(hung=True)`."""

    def close(self, timeout_s: float) -> None:
        """Ask all to exit, kill what is left after `timeout_s`."""
