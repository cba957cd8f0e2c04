"""An in-memory log that keeps to Kafka's rules: partitions, transactions, fencing, retention, read_committed readers.

What a broker does and a client can see is here; requests answer at once. Errors are `LogError` under Kafka's own
names. `tests/contract/test_log.py` holds this log and a real Kafka to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from streamer.core.output import Output
from streamer.core.record import Headers, MemoryRecord, TopicPartition
from streamer.testing.clock import ManualClock
from streamer.testing.group import Group, GroupMetadata
from streamer.testing.log_error import LogError

TRANSACTION_TIMEOUT_S = 10.0


class _State(Enum):
    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True, eq=False)
class _Transaction:
    """What one transaction wrote, and the offsets that wait in it."""

    began: float
    state: _State = _State.OPEN
    records: list[MemoryRecord] = field(default_factory=list)
    partitions: set[TopicPartition] = field(default_factory=set)
    offsets: list[tuple[Group, dict[TopicPartition, int]]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Partition:
    """Entries by offset: a record, or None for a control marker, with its transaction if it has one."""

    entries: list[tuple[MemoryRecord | None, _Transaction | None]] = field(default_factory=list)
    start: int = 0
    end: int | None = None  # what stands behind is not there now
    damaged: int | None = None
    open: dict[_Transaction, int] = field(default_factory=dict)  # the first offset of each open transaction

    @property
    def high(self) -> int:
        return len(self.entries) if self.end is None else min(self.end, len(self.entries))

    @property
    def last_stable(self) -> int:
        return min(self.high, *self.open.values()) if self.open else self.high


class MemoryLog:
    """Topics, transactions and consumer groups.

    `on_visible` is told of each commit's records (and of records outside a transaction) as they become durable;
    `on_stable` of the partitions whose readers may read on. `refusing` has the topics that take no record now.
    """

    def __init__(self, clock: ManualClock, transaction_timeout_s: float = TRANSACTION_TIMEOUT_S) -> None:
        self.transaction_timeout_s = transaction_timeout_s
        self.on_visible: list[Callable[[list[MemoryRecord]], None]] = []
        self.on_stable: list[Callable[[TopicPartition], None]] = []
        self.refusing: set[str] = set()
        self.clock = clock
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._producers: dict[str, _ProducerState] = {}
        self._groups: dict[str, Group] = {}

    # --- topics --------------------------------------------------------------------------------------------------

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic; its partitions are empty."""
        for partition in range(partitions):
            self._partitions[topic, partition] = _Partition()

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics, in order."""
        wanted = set(topics)
        return sorted(key for key in self._partitions if key[0] in wanted)

    def append(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        timestamp_ms: int = 0,
    ) -> int:
        """Write a record outside a transaction; returns its offset."""
        record = self._write((topic, partition), key, value, headers, timestamp_ms, None)
        for watch in self.on_visible:
            watch([record])
        self._moved([(topic, partition)])
        return record.offset()

    def read(
        self, partition: TopicPartition, offset: int, most: int, *, committed: bool = True
    ) -> tuple[list[MemoryRecord], int]:
        """Up to `most` records from `offset` on, and the offset to read from next. A read_committed reader sees no
        aborted record, and nothing from the first open transaction on. Raises LogError OFFSET_OUT_OF_RANGE, and
        _BAD_MSG for a record that is damaged."""
        state = self._partitions[partition]
        end = state.last_stable if committed else state.high
        if not state.start <= offset <= state.high:
            raise LogError("OFFSET_OUT_OF_RANGE")
        if state.damaged is not None and offset <= state.damaged < end:
            if offset == state.damaged:
                raise LogError("_BAD_MSG")
            end = state.damaged
        found: list[MemoryRecord] = []
        while offset < end and len(found) < most:
            record, transaction = state.entries[offset]
            offset += 1
            if record is None or (committed and transaction is not None and transaction.state is not _State.COMMITTED):
                continue
            found.append(record)
        return found, offset

    def start_offset(self, partition: TopicPartition) -> int:
        """The first offset that retention left."""
        return self._partitions[partition].start

    def end_offset(self, partition: TopicPartition) -> int:
        """The offset of the next record, as readers of uncommitted records see it."""
        return self._partitions[partition].high

    def last_stable_offset(self, partition: TopicPartition) -> int:
        """Where readers of committed records stand still: the first open transaction, or the end."""
        return self._partitions[partition].last_stable

    def damage(self, partition: TopicPartition, offset: int | None) -> None:
        """Let the record at this offset be unreadable; None fixes it."""
        self._partitions[partition].damaged = offset
        self._moved([partition])

    def shorten(self, partition: TopicPartition, end: int | None) -> None:
        """Let the log end here, as that of a mirror that is behind; None brings back what stands behind."""
        self._partitions[partition].end = end
        self._moved([partition])

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Retention."""
        self._partitions[partition].start = offset

    def group(self, name: str, topics: Iterable[str] = (), session_timeout_s: float = 10.0) -> Group:
        """The consumer group of this name; made with these topics at the first call."""
        if name not in self._groups:
            self._groups[name] = Group(self.clock, self.partitions_of(topics), session_timeout_s)
        return self._groups[name]

    # --- transactions ----------------------------------------------------------------------------------------------

    def init_producer(self, transactional_id: str, timeout_s: float | None = None) -> MemoryProducer:
        """A producer under this id: ends what an earlier one left open, and fences it."""
        state = self._producers.setdefault(transactional_id, _ProducerState())
        state.epoch += 1
        state.timeout_s = self.transaction_timeout_s if timeout_s is None else timeout_s
        if state.transaction is not None:
            self._end(state, _State.ABORTED)
        return MemoryProducer(self, state, state.epoch)

    def in_transaction(self, transactional_id: str) -> bool:
        """Whether a transaction of this id is open."""
        state = self._producers.get(transactional_id)
        return state is not None and state.transaction is not None

    def _begin(self, state: _ProducerState) -> _Transaction:
        transaction = state.transaction = _Transaction(self.clock.now)

        def expire() -> None:
            if state.transaction is transaction:
                state.epoch += 1
                self._end(state, _State.ABORTED)

        self.clock.later(state.timeout_s, expire)
        return transaction

    def _end(self, state: _ProducerState, how: _State) -> None:
        transaction = state.transaction
        assert transaction is not None
        state.transaction = None
        transaction.state = how
        touched = sorted(transaction.partitions)
        for key in touched:
            partition = self._partitions[key]
            del partition.open[transaction]
            partition.entries.append((None, transaction))
        if how is _State.COMMITTED and transaction.records:
            for watch in self.on_visible:
                watch(transaction.records)
        for group, offsets in transaction.offsets:
            group.resolve(transaction, offsets if how is _State.COMMITTED else {})
        self._moved(touched)

    def _write(
        self,
        key: TopicPartition,
        record_key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        transaction: _Transaction | None,
    ) -> MemoryRecord:
        partition = self._partitions.get(key)
        if partition is None:
            raise LogError("UNKNOWN_TOPIC_OR_PARTITION")
        if key[0] in self.refusing:
            raise LogError("POLICY_VIOLATION")
        offset = len(partition.entries)
        record = MemoryRecord(key[0], key[1], offset, record_key, value, headers, timestamp_ms)
        partition.entries.append((record, transaction))
        if transaction is not None and key not in transaction.partitions:
            transaction.partitions.add(key)
            partition.open[transaction] = offset
        return record

    def _moved(self, partitions: Iterable[TopicPartition]) -> None:
        for key in partitions:
            for watch in self.on_stable:
                watch(key)


@dataclass(slots=True, eq=False)
class _ProducerState:
    """What the coordinator knows of a transactional id."""

    epoch: int = -1
    timeout_s: float = TRANSACTION_TIMEOUT_S
    transaction: _Transaction | None = None


class MemoryProducer:
    """A transactional producer. Every call raises LogError PRODUCER_FENCED once a newer one has its id, or once the
    broker timed its transaction out; calls without a transaction raise INVALID_TXN_STATE."""

    def __init__(self, log: MemoryLog, state: _ProducerState, epoch: int) -> None:
        self._log = log
        self._state = state
        self._epoch = epoch
        self._transaction: _Transaction | None = None

    def begin(self) -> None:
        """Open a transaction; it times out if it is not ended."""
        if self._transaction is not None:
            raise LogError("INVALID_TXN_STATE")
        self._check_epoch()
        self._transaction = self._log._begin(self._state)

    def send(self, outputs: Iterable[Output]) -> None:
        """Write records; readers see them once the transaction is committed. Raises UNKNOWN_TOPIC_OR_PARTITION,
        and POLICY_VIOLATION where the topic refuses it."""
        transaction = self._open()
        write = self._log._write
        timestamp_ms = int(self._log.clock.now * 1000)
        for topic, partition, key, value, headers in outputs:
            transaction.records.append(write((topic, partition), key, value, headers, timestamp_ms, transaction))

    def send_offsets(
        self,
        group: Group,
        offsets: dict[TopicPartition, int],
        metadata: GroupMetadata | None,
        notes: dict[TopicPartition, str] | None = None,
    ) -> None:
        """Add offsets, with `notes` as their metadata. The broker checks that the member is in the group and of its
        generation, and nothing else: it accepts partitions that another member owns, and whoever says that it is no
        member (None). Raises as `Group.check` does."""
        transaction = self._open()
        if metadata is not None:
            group.check(metadata)
        group.pend(transaction, offsets, notes or {})
        transaction.offsets.append((group, offsets))

    def commit(self) -> None:
        """Records become visible and offsets count, together."""
        self._open()
        self._transaction = None
        self._log._end(self._state, _State.COMMITTED)

    def abort(self) -> None:
        """Neither ever happened."""
        self._open()
        self._transaction = None
        self._log._end(self._state, _State.ABORTED)

    def _check_epoch(self) -> None:
        if self._state.epoch != self._epoch:
            raise LogError("PRODUCER_FENCED")

    def _open(self) -> _Transaction:
        self._check_epoch()
        if self._transaction is None:
            raise LogError("INVALID_TXN_STATE")
        return self._transaction
