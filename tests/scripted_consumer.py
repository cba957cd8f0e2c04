"""A stand-in for confluent_kafka's Consumer that plays a script: what the group says, what brokers and partitions do.

`tests/contract/test_scripted_consumer.py` holds it to the real one. What it can't play, such as two members or a broker
that is away, is tried against a real Kafka.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

Key = tuple[str, int]
Callback = Callable[[Any, list[TopicPartition]], None]
TICK_S = 0.005


class ScriptedMessage:
    """A record, or an error in a record's place."""

    def __init__(self, key: Key, offset: int, value: bytes | None = None, error: KafkaError | None = None) -> None:
        self._key = key
        self._offset = offset
        self._value = value
        self._error = error

    def __len__(self) -> int:
        return len(self._value or b"")

    def topic(self) -> str:
        return self._key[0]

    def partition(self) -> int:
        return self._key[1]

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000

    def error(self) -> KafkaError | None:
        return self._error


@dataclass(slots=True)
class Partition:
    """What the broker has of a partition: values from offset `low` on."""

    values: list[bytes] = field(default_factory=list)
    low: int = 0
    damaged: int | None = None  # the offset of a batch that can't be read

    @property
    def high(self) -> int:
        return self.low + len(self.values)


@dataclass(slots=True)
class _Assigned:
    fetch: int  # what is given next
    position: int = OFFSET_INVALID  # behind what was given
    said_end: int = -1
    stopped: bool = False  # it asks for a place that is not there, and no more until it is assigned anew


class ScriptedConsumer:
    """`play` queues a step, which is a function that takes this consumer; each `poll` plays one before it looks for a
    record. `told` is what the client was asked to do. `commits_fail` and `seeks_fail` hold errors for calls to come."""

    def __init__(self, partitions: dict[Key, Partition], *, eof: bool = False) -> None:
        self.partitions = partitions
        self.offsets: dict[Key, tuple[int, str]] = {}
        self.told: list[tuple[Any, ...]] = []
        self.paused: set[Key] = set()
        self.subscribed: list[str] = []
        self.commits_fail: deque[int] = deque()
        self.seeks_fail: deque[int] = deque()
        self.resumes_fail = 0  # so many have no effect, as may happen in a rebalance
        self.closed = threading.Event()
        self._eof = eof
        self._script: deque[Callable[[ScriptedConsumer], ScriptedMessage | None]] = deque()
        self._assigned: dict[Key, _Assigned] = {}
        self._callbacks: dict[str, Callback] = {}

    # --- the script ---------------------------------------------------------------------------------------------------

    def play(self, *steps: Callable[[ScriptedConsumer], ScriptedMessage | None]) -> None:
        """Let the next polls begin with these."""
        self._script.extend(steps)

    # --- the client: the group ----------------------------------------------------------------------------------------

    def subscribe(self, topics: list[str], on_assign: Callback, on_revoke: Callback, on_lost: Callback) -> None:
        self.subscribed = topics
        self._callbacks = {"on_assign": on_assign, "on_revoke": on_revoke, "on_lost": on_lost}

    def unsubscribe(self) -> None:
        self.subscribed = []
        self.say("on_revoke", list(self._assigned))

    def say(self, word: str, keys: Iterable[Key]) -> None:
        """The group's word; what it takes away is gone once the callback has returned."""
        listed = [TopicPartition(*key) for key in keys]
        if word != "on_assign":
            listed = [one for one in listed if (one.topic, one.partition) in self._assigned]
        if listed or word == "on_assign":
            self._callbacks[word](self, listed)
        for one in listed if word != "on_assign" else ():
            self._assigned.pop((one.topic, one.partition), None)

    def memberid(self) -> str:
        return "member-1"

    def consumer_group_metadata(self) -> object:
        return object()

    def close(self) -> None:
        if not self.closed.is_set():
            self.say("on_revoke", list(self._assigned))
            self.closed.set()

    # --- the client: reading ------------------------------------------------------------------------------------------

    def poll(self, timeout: float) -> ScriptedMessage | None:
        if self._script and (said := self._script.popleft()(self)) is not None:
            return said
        found = self._next()
        if found is None:
            threading.Event().wait(min(timeout, TICK_S))
        return found

    def consume(self, most: int, timeout: float) -> list[ScriptedMessage]:
        found: list[ScriptedMessage] = []
        while len(found) < most and (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> ScriptedMessage | None:
        for key, mine in self._assigned.items():
            there = self.partitions[key]
            if key in self.paused or mine.stopped:
                continue
            if not there.low <= mine.fetch <= there.high:
                mine.stopped = True
                return ScriptedMessage(key, mine.fetch, error=KafkaError(KafkaError._AUTO_OFFSET_RESET))
            if mine.fetch == there.damaged:
                return ScriptedMessage(key, mine.fetch, error=KafkaError(KafkaError._BAD_MSG))
            if mine.fetch < there.high:
                mine.fetch += 1
                mine.position = mine.fetch
                return ScriptedMessage(key, mine.fetch - 1, there.values[mine.fetch - 1 - there.low])
            if self._eof and mine.said_end != mine.fetch:
                mine.said_end = mine.fetch
                return ScriptedMessage(key, mine.fetch, error=KafkaError(KafkaError._PARTITION_EOF))
        return None

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.told.append(("assign", *((one.topic, one.partition, one.offset) for one in partitions)))
        self._assigned |= {(one.topic, one.partition): _Assigned(one.offset) for one in partitions}

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            del self._assigned[one.topic, one.partition]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.told.append(("pause", *((one.topic, one.partition) for one in partitions)))
        self.paused |= {(one.topic, one.partition) for one in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.told.append(("resume", *((one.topic, one.partition) for one in partitions)))
        if self.resumes_fail:
            self.resumes_fail -= 1
            return
        self.paused -= {(one.topic, one.partition) for one in partitions}

    def seek(self, partition: TopicPartition) -> None:
        key = partition.topic, partition.partition
        self.told.append(("seek", *key, partition.offset))
        if key not in self._assigned:
            raise KafkaException(KafkaError(KafkaError._STATE))
        if self.seeks_fail:
            raise KafkaException(KafkaError(self.seeks_fail.popleft()))
        self._assigned[key] = _Assigned(partition.offset)

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        found = {key: mine.position for key, mine in self._assigned.items()}
        return [TopicPartition(one.topic, one.partition, found[one.topic, one.partition]) for one in partitions]

    # --- the client: the brokers --------------------------------------------------------------------------------------

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        there = self.partitions[partition.topic, partition.partition]
        return there.low, there.high

    def list_topics(self, topic: str, timeout: float = -1) -> Any:
        numbers = {number: None for name, number in self.partitions if name == topic}
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=numbers)})

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        nothing = (OFFSET_INVALID, "")
        return [
            TopicPartition(one.topic, one.partition, *self.offsets.get((one.topic, one.partition), nothing))
            for one in partitions
        ]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool = True) -> list[TopicPartition] | None:
        if self.commits_fail:
            code = self.commits_fail.popleft()
            if asynchronous:  # nobody hears of it
                return None
            raise KafkaException(KafkaError(code))
        self.told.append(("commit", *((one.topic, one.partition, one.offset) for one in offsets)))
        self.offsets |= {(one.topic, one.partition): (one.offset, one.metadata or "") for one in offsets}
        return None if asynchronous else offsets


def assigned(*keys: Key) -> Callable[[ScriptedConsumer], None]:
    """The group gives us these."""
    return lambda client: client.say("on_assign", keys)


def revoked(*keys: Key) -> Callable[[ScriptedConsumer], None]:
    """The group wants these back."""
    return lambda client: client.say("on_revoke", keys)


def lost(*keys: Key) -> Callable[[ScriptedConsumer], None]:
    """The group has given these to somebody else."""
    return lambda client: client.say("on_lost", keys)


def error(code: int, key: Key = ("", -1), offset: int = -1, *, fatal: bool = False) -> Callable[..., ScriptedMessage]:
    """An error in a record's place."""
    return lambda _: ScriptedMessage(key, offset, error=KafkaError(code, fatal=fatal))


def raised(code: int) -> Callable[[ScriptedConsumer], None]:
    """`poll` raises."""

    def step(_: ScriptedConsumer) -> None:
        raise KafkaException(KafkaError(code))

    return step
