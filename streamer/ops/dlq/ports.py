"""What the dead-letter tools need of the world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from streamer.core.events.codec import Reading
from streamer.core.output import Output
from streamer.core.record import Record, TopicPartition


class Scan(Protocol):
    """One pass over a topic, up to ends fixed when it was opened."""

    @property
    def ends(self) -> Mapping[int, int]:
        """The offsets that are not read any more, by partition."""
        ...

    @property
    def span(self) -> int:
        """Offsets to go over."""
        ...

    def batches(self) -> Iterator[list[Record]]:
        """The records, in the order of offsets within a partition."""
        ...


class Target(Protocol):
    """A topic to write to. None is what the cluster does not let us see."""

    @property
    def partitions(self) -> int: ...
    @property
    def max_message_bytes(self) -> int | None: ...
    @property
    def rights(self) -> frozenset[str] | None: ...


class Log(Protocol):
    """The topics, and how pipelines by name read events."""

    @property
    def readings(self) -> Mapping[str, Reading]: ...

    def scan(
        self, topic: str, *, starts: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
    ) -> AbstractContextManager[Scan]:
        """Open a pass over a topic. Raises ConfigurationError when it does not exist or may not be read."""
        ...

    def identity(self, topic: str) -> str | None:
        """What tells a topic from one of the same name that is made later, "" where the brokers can't say; None where
        there is none."""
        ...

    def describe(self, topics: Sequence[str]) -> Mapping[str, Target | None]:
        """Each topic, None where it does not exist."""
        ...


class Offsets(Protocol):
    """What the cluster knows of topics and of groups' offsets."""

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics. Raises ConfigurationError for a missing one."""
        ...

    def committed(self, group: str, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offsets that the group has settled."""
        ...

    def at_time(self, partitions: Iterable[TopicPartition], time_ms: int) -> Mapping[TopicPartition, int]:
        """The first offset of that time or later; partitions without one are left out."""
        ...


class Copier(Protocol):
    """Writes records together or not at all. Opened by one process at a time: a second one ends the first."""

    def commit(self, outputs: Sequence[Output]) -> None:
        """All of these in one transaction. Raises StreamerError when they are not written."""
        ...

    def close(self) -> None:
        """Abort what is open."""
        ...
