"""A schema registry in memory, and what a process of the simulation asks it: it answers late, or not for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamer.core.events.framed import FRAME_BYTES, SchemaName, data_of
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import SchemasLearned
from streamer.core.record import Headers
from streamer.core.standing import Reason, Standing
from streamer.ports import Post
from streamer.testing.clock import Latency, ManualClock

ANSWER_S = 0.01


def framed(value: bytes, number: int) -> bytes:
    """A value as a serializer writes it whose schema has this number."""
    return b"\0" + number.to_bytes(FRAME_BYTES - 1) + value


class MemoryRegistry:
    """What all processes share. Schemas above `newest` are not given before `catch_up`."""

    def __init__(self) -> None:
        self.newest: int | None = None
        self._waiting: list[Callable[[], None]] = []

    def gives(self, name: SchemaName) -> bool:
        """Whether it has this schema by now."""
        return self.newest is None or int.from_bytes(name[1][1:]) <= self.newest

    def later(self, ask: Callable[[], None]) -> None:
        """Have this called once it has caught up."""
        self._waiting.append(ask)

    def catch_up(self) -> None:
        """It has all schemas from now on."""
        self.newest = None
        waiting, self._waiting = self._waiting, []
        for ask in waiting:
            ask()


class MemorySchemas:
    """`streamer.core.framed.Schemas` of one process."""

    def __init__(self, registry: MemoryRegistry, post: Post, clock: ManualClock, latency: Latency) -> None:
        self._registry = registry
        self._post = post
        self._clock = clock
        self._latency = latency
        self._known: set[SchemaName] = set()

    def knows(self, name: SchemaName) -> bool:
        """Whether it was learned."""
        return name in self._known

    def open(self, value: bytes, headers: Headers | None, topic: str) -> bytes:
        """The JSON behind the frame."""
        assert self.knows((topic, value[:FRAME_BYTES]))
        return data_of(value, headers)

    def learn(self, names: list[SchemaName]) -> None:
        """Learn these, each by itself."""
        for name in names:
            self._clock.later(self._latency(ANSWER_S), lambda name=name: self._learn(name))  # type: ignore[misc]

    def standing(self, pipeline: Pipeline) -> Iterator[Standing]:
        """The partitions that wait for one."""
        for key, sealed in pipeline.seals.partitions.items():
            offset = sealed.segment.records[0].offset()
            yield Standing(key, offset, Reason.SCHEMA_REGISTRY, "its schema is not known", "see to the registry")

    def _learn(self, name: SchemaName) -> None:
        if not self._registry.gives(name):
            self._registry.later(lambda: self._learn(name))
            return
        self._known.add(name)
        self._post(SchemasLearned([name]))
