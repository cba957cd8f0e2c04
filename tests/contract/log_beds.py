"""The same small words over the in-memory log and over a real Kafka, for `test_log.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streamer.testing import Group, GroupMetadata, LogError, ManualClock, MemoryLog, MemoryProducer

FENCED = {"_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"}
UNSTABLE = {"UNSTABLE_OFFSET_COMMIT", "_TIMED_OUT"}
PATIENCE_S = 20.0

OnRevoke = Callable[["Member", frozenset[int]], None]


class RefusedError(Exception):
    """The log refused something; its text is Kafka's name of the error."""


class Member(Protocol):
    """A member of a group on one topic. `owned` are its partitions; `log` of its bed tells who got what and lost it."""

    name: str
    owned: frozenset[int]

    def metadata(self) -> Any: ...
    def commit(self, offsets: dict[int, int], note: str) -> None: ...
    def leave(self) -> None: ...


class Transactions(Protocol):
    """A transactional producer."""

    def begin(self) -> None: ...
    def send(self, topic: str, partition: int, *values: bytes) -> None: ...
    def send_offsets(self, topic: str, offsets: dict[int, int], metadata: Any, note: str = "") -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class Bed(Protocol):
    """A log to try things on. `story` is what befell members: (name, "assigned" or "revoked", partitions)."""

    story: list[tuple[str, str, frozenset[int]]]

    def topic(self, partitions: int) -> str: ...
    def write(self, topic: str, partition: int, *values: bytes) -> None: ...
    def read(self, topic: str, partition: int, offset: int = 0) -> list[tuple[int, bytes]]: ...
    def delete_before(self, topic: str, partition: int, offset: int) -> None: ...
    def producer(self, transactional_id: str) -> Transactions: ...
    def join(self, name: str, topic: str, instance: str | None = None, on_revoke: OnRevoke | None = None) -> Member: ...
    def wait(self, condition: Callable[[], bool]) -> None: ...
    def committed(self, topic: str, partition: int) -> int | str | None: ...
    def note(self, topic: str, partition: int) -> str: ...
    def no_member(self, topic: str) -> Any: ...
    def close(self) -> None: ...


class MemoryBed:
    """Over `streamer.testing`."""

    def __init__(self) -> None:
        self.story: list[tuple[str, str, frozenset[int]]] = []
        self.clock = ManualClock()
        self.log = MemoryLog(self.clock)

    def topic(self, partitions: int) -> str:
        self.log.create_topic("t", partitions)
        return "t"

    def write(self, topic: str, partition: int, *values: bytes) -> None:
        for value in values:
            self.log.append(topic, partition, value)

    def read(self, topic: str, partition: int, offset: int = 0) -> list[tuple[int, bytes]]:
        records, _ = refusing(lambda: self.log.read((topic, partition), offset, 1000))
        return [(record.offset(), record.value() or b"") for record in records]

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self.log.delete_before((topic, partition), offset)

    def producer(self, transactional_id: str) -> Transactions:
        return _MemoryTransactions(self.log.init_producer(transactional_id), self)

    def group(self, topic: str) -> Group:
        return self.log.group("g", [topic])

    def join(self, name: str, topic: str, instance: str | None = None, on_revoke: OnRevoke | None = None) -> Member:
        return _MemoryMember(self, name, topic, instance, on_revoke)

    def wait(self, condition: Callable[[], bool]) -> None:
        self.clock.advance_until(condition, PATIENCE_S)

    def committed(self, topic: str, partition: int) -> int | str | None:
        try:
            return self.group(topic).committed([(topic, partition)]).get((topic, partition))
        except LogError as error:
            assert error.code in UNSTABLE
            return "unstable"

    def note(self, topic: str, partition: int) -> str:
        return self.group(topic).notes[topic, partition]

    def no_member(self, topic: str) -> None:
        """The metadata of somebody outside."""

    def close(self) -> None:
        """Nothing is open."""


class _MemoryTransactions:
    def __init__(self, producer: MemoryProducer, bed: MemoryBed) -> None:
        self._producer = producer
        self._bed = bed

    def begin(self) -> None:
        refusing(self._producer.begin)

    def send(self, topic: str, partition: int, *values: bytes) -> None:
        refusing(lambda: self._producer.send((topic, partition, None, value, []) for value in values))

    def send_offsets(self, topic: str, offsets: dict[int, int], metadata: Any, note: str = "") -> None:
        keyed = {(topic, partition): offset for partition, offset in offsets.items()}
        refusing(
            lambda: self._producer.send_offsets(self._bed.group(topic), keyed, metadata, dict.fromkeys(keyed, note))
        )

    def commit(self) -> None:
        refusing(self._producer.commit)

    def abort(self) -> None:
        refusing(self._producer.abort)


class _MemoryMember:
    def __init__(self, bed: MemoryBed, name: str, topic: str, instance: str | None, on_revoke: OnRevoke | None) -> None:
        self.name = name
        self.owned: frozenset[int] = frozenset()
        self._bed = bed
        self._topic = topic
        self._instance = instance
        self._on_revoke = on_revoke
        self._generation = -1
        self._group = bed.group(topic)
        self._id = ""
        self._id = self._group.join(self, None, frozenset(), instance)

    def metadata(self) -> Any:
        return GroupMetadata(self._id, self._generation, self._instance)

    def commit(self, offsets: dict[int, int], note: str) -> None:
        keyed = {(self._topic, partition): offset for partition, offset in offsets.items()}
        refusing(lambda: self._group.commit(keyed, self.metadata(), dict.fromkeys(keyed, note)))

    def leave(self) -> None:
        self._group.leave(self._id)

    def on_rebalance(self, member: str) -> None:
        self._bed.clock.later(0.1, self._rejoin)

    def on_sync(self, member: str, generation: int, assignment: frozenset[tuple[str, int]]) -> None:
        self._bed.clock.later(0.1, lambda: self._synced(generation, frozenset(key[1] for key in assignment)))

    def on_expelled(self, member: str) -> None:
        self.owned = frozenset()

    def on_fenced(self, member: str) -> None:
        self.owned = frozenset()

    def _rejoin(self) -> None:
        self._group.join(self, self._id, frozenset((self._topic, one) for one in self.owned), self._instance)

    def _synced(self, generation: int, assigned: frozenset[int]) -> None:
        self._generation = generation
        added, gone = assigned - self.owned, self.owned - assigned
        if added:
            self._bed.story.append((self.name, "assigned", added))
        self.owned |= added
        if gone:
            if self._on_revoke is not None:
                self._on_revoke(self, gone)
            self._bed.story.append((self.name, "revoked", gone))
            self.owned = assigned
            self._rejoin()


class KafkaBed:
    """Over a broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.story: list[tuple[str, str, frozenset[int]]] = []
        self.servers: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap_servers}
        self.prefix = uuid4().hex[:8]
        self._admin = AdminClient(self.servers)
        self._members: list[_KafkaMember] = []
        self._producers: list[Producer] = []
        self._writer = Producer(self.servers)

    def topic(self, partitions: int) -> str:
        name = f"{self.prefix}.t"
        for future in self._admin.create_topics([NewTopic(name, partitions, 1)]).values():
            future.result()
        return name

    def write(self, topic: str, partition: int, *values: bytes) -> None:
        for value in values:
            self._writer.produce(topic, value, partition=partition)
        assert self._writer.flush(PATIENCE_S) == 0

    def read(self, topic: str, partition: int, offset: int = 0) -> list[tuple[int, bytes]]:
        reader = self._consumer("reader", {"enable.partition.eof": True, "auto.offset.reset": "error"})
        found: list[tuple[int, bytes]] = []
        deadline = time.monotonic() + PATIENCE_S
        try:
            reader.assign([KafkaPartition(topic, partition, offset)])
            while time.monotonic() < deadline:
                message = reader.poll(0.5)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    found.append((message.offset() or 0, message.value() or b""))
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise RefusedError("OFFSET_OUT_OF_RANGE")
            raise TimeoutError("the reader never came to the end")
        finally:
            reader.close()

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        for future in self._admin.delete_records([KafkaPartition(topic, partition, offset)]).values():
            future.result()

    def producer(self, transactional_id: str) -> Transactions:
        made = Producer({**self.servers, "transactional.id": f"{self.prefix}.{transactional_id}"})
        self._producers.append(made)
        made.init_transactions(PATIENCE_S)
        return _KafkaTransactions(made)

    def join(self, name: str, topic: str, instance: str | None = None, on_revoke: OnRevoke | None = None) -> Member:
        extra = {} if instance is None else {"group.instance.id": instance}
        member = _KafkaMember(self, name, self._consumer("g", extra), topic, on_revoke)
        self._members.append(member)
        return member

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {PATIENCE_S} s")
            for member in self._members:
                member.poll()

    def committed(self, topic: str, partition: int) -> int | str | None:
        asking = self._consumer("g", {})
        try:
            found = asking.committed([KafkaPartition(topic, partition)], timeout=2.0)[0]
        except KafkaException as error:
            assert error.args[0].name() in UNSTABLE
            return "unstable"
        finally:
            asking.close()
        return found.offset if found.offset >= 0 else None

    def note(self, topic: str, partition: int) -> str:
        asking = self._consumer("g", {})
        try:
            return asking.committed([KafkaPartition(topic, partition)], timeout=PATIENCE_S)[0].metadata or ""
        finally:
            asking.close()

    def no_member(self, topic: str) -> Any:
        outsider = self._consumer("g", {})
        metadata = outsider.consumer_group_metadata()
        outsider.close()
        return metadata

    def close(self) -> None:
        for member in self._members:
            member.leave()
        for producer in self._producers:
            producer.purge()
            with suppress(KafkaException):  # the fenced one says so again
                producer.close()
        self._writer.close()

    def _consumer(self, group: str, extra: dict[str, Any]) -> Consumer:
        return Consumer(
            {
                **self.servers,
                "group.id": f"{self.prefix}.{group}",
                "partition.assignment.strategy": "cooperative-sticky",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 200,
                "auto.offset.reset": "earliest",
                **extra,
            }
        )


class _KafkaTransactions:
    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def begin(self) -> None:
        refusing(self._producer.begin_transaction)

    def send(self, topic: str, partition: int, *values: bytes) -> None:
        for value in values:
            self._producer.produce(topic, value, partition=partition)
        self._producer.flush(PATIENCE_S)

    def send_offsets(self, topic: str, offsets: dict[int, int], metadata: Any, note: str = "") -> None:
        listed = [KafkaPartition(topic, partition, offset, note) for partition, offset in offsets.items()]
        refusing(lambda: self._producer.send_offsets_to_transaction(listed, metadata, PATIENCE_S))

    def commit(self) -> None:
        refusing(lambda: self._producer.commit_transaction(PATIENCE_S))

    def abort(self) -> None:
        refusing(lambda: self._producer.abort_transaction(PATIENCE_S))


class _KafkaMember:
    def __init__(self, bed: KafkaBed, name: str, consumer: Consumer, topic: str, on_revoke: OnRevoke | None) -> None:
        self.name = name
        self.owned: frozenset[int] = frozenset()
        self._bed = bed
        self._consumer = consumer
        self._topic = topic
        self._hook = on_revoke
        self._left = False
        consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def metadata(self) -> Any:
        return self._consumer.consumer_group_metadata()

    def poll(self) -> None:
        if not self._left:
            self._consumer.poll(0.05)

    def commit(self, offsets: dict[int, int], note: str) -> None:
        listed = [KafkaPartition(self._topic, partition, offset, note) for partition, offset in offsets.items()]
        refusing(lambda: self._consumer.commit(offsets=listed, asynchronous=False))

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._hook = None
            self._consumer.close()

    def _on_assign(self, _: Consumer, partitions: list[KafkaPartition]) -> None:
        added = frozenset(one.partition for one in partitions)
        if added:
            self._bed.story.append((self.name, "assigned", added))
        self.owned |= added

    def _on_revoke(self, _: Consumer, partitions: list[KafkaPartition]) -> None:
        gone = frozenset(one.partition for one in partitions)
        if self._hook is not None:
            self._hook(self, gone)
        self._bed.story.append((self.name, "revoked", gone))
        self.owned -= gone


def refusing(call: Callable[[], Any]) -> Any:
    """Call; an error of either log becomes a RefusedError with Kafka's name of it."""
    try:
        return call()
    except LogError as error:
        raise RefusedError(error.code) from None
    except KafkaException as error:
        name = error.args[0].name()
        raise RefusedError("PRODUCER_FENCED" if name in FENCED else name) from None
