"""A source over the in-memory log. It keeps to the steps of the real one, with a task in place of its thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

from streamer.config.pipeline import DEFAULTS
from streamer.core.membership import LOOK_AT_HELD_S, Membership
from streamer.core.ownership import Ownership
from streamer.core.pipeline.attempts import Attempts, Former
from streamer.core.pipeline.protocol import SourceFailed, Taken
from streamer.core.record import MemoryRecord, MicroBatch, Segment, TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.core.unanswered import ReadState
from streamer.errors import ExitCode
from streamer.ports import Post
from streamer.testing.assignment import RETRY_S, MemoryAssignment
from streamer.testing.calls import Call, Calls
from streamer.testing.clock import Latency, ManualClock, Task, Wait, exactly
from streamer.testing.group import NOBODY, Group, GroupMetadata
from streamer.testing.log import MemoryLog
from streamer.testing.log_error import LogError

RECORD_OVERHEAD_BYTES = 1024
JOIN_S = 0.05
POLL_S = 0.004
NETWORK_S = 0.01
ORPHAN_S = 0.5
STANDING_S = 30.0  # an obstacle of this age has a name

Act = Callable[[], Generator[Wait, None, None]]


class MemorySource:
    """`streamer.ports.Source`. `instance` makes the member a static one; `wall_ns` is the wall clock."""

    def __init__(
        self,
        log: MemoryLog,
        group: Group,
        topics: Iterable[str],
        post: Post,
        clock: ManualClock,
        *,
        instance: str | None = None,
        micro_batch_records: int = DEFAULTS["micro_batch_records"],
        revoke_deadline_s: float = DEFAULTS["revoke_deadline_s"],
        skip_out_of_range: bool = False,
        heals_orphans: bool = True,
        crash_limit: int = DEFAULTS["crash_limit"],
        latency: Latency = exactly,
        wall_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self.ownership = Ownership(NOBODY)
        self.member: str | None = None
        self.out_of_range_records = 0
        self.network_s = NETWORK_S  # how long the coordinator's word takes to us
        self._log = log
        self._group = group
        self._topics = frozenset(topics)
        self._post = post
        self._clock = clock
        self._instance = instance
        self._micro_batch_records = micro_batch_records
        self._revoke_deadline_s = revoke_deadline_s
        self._skip_out_of_range = skip_out_of_range
        self._heals_orphans = heals_orphans
        self._latency = latency
        self._wall_ns = wall_ns
        self._attempts = Attempts(crash_limit)
        self._in_order = False
        self._generation = -1
        self._stood: dict[tuple[TopicPartition, int, Reason], float] = {}
        self._joining = False
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._number = 0
        self._done = 0
        self._taken_records = 0
        self._taken_bytes = 0
        self._granted = (0, 0)
        self._mail: deque[tuple[str, Act]] = deque()
        self._mail_at = 0.0
        self._calls = Calls()
        self._closed = False
        self._task = Task(clock, self._run())
        self._attempts.started(Former(group.owners))
        self._ours = Membership(self._attempts, revoke_deadline_s=revoke_deadline_s)
        self._assignment = MemoryAssignment(
            self._ours,
            log,
            group,
            self._calls,
            post,
            clock,
            metadata=self._metadata,
            changed=self._publish,
            wake=self._task.wake,
        )
        log.on_stable.append(self._on_stable)

    # --- the port -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the group."""
        self._task.start()

    def grant(self, records: int, size_bytes: int) -> None:
        """Allow to have taken this much in all."""
        self._granted = (records, size_bytes)
        self._task.wake()

    def done(self, batch: MicroBatch) -> None:
        """All of this micro-batch is durable or dropped."""
        self._done += 1
        settled = {
            (one.topic, one.partition): one.records[-1].offset() + 1
            for one in batch.segments
            if not one.dropped and self._ours.epochs.get((one.topic, one.partition)) == one.epoch
        }
        self._attempts.settled(settled, self._clock.now)
        self._task.wake()

    def release(self, epoch: int) -> None:
        """Let revoked partitions go."""
        self._assignment.release(epoch)

    def note(self, partition: TopicPartition, offset: int) -> str:
        """The metadata with which this offset is to be settled."""
        return self._attempts.note(partition, offset)

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """Read again from the committed offsets."""
        self.call(lambda: self._assignment.perform(self._ours.rewind(partitions)))

    def absolve(self) -> None:
        """The process ends in order."""
        self._in_order = True

    def close(self, timeout_s: float) -> None:
        """Leave the group at once, or, as a static member, fall silent until the session times out."""
        if self._in_order:
            for _ in self._assignment.perform(self._ours.end_in_order(self._ours.epochs)):
                raise AssertionError("it has no time to wait")
        if self.member is not None:
            if self._instance is None:
                self._group.leave(self.member)
            else:
                self._group.silence(self.member)
        self._end()

    def kill(self) -> None:
        """End as by kill -9: nobody is told, the session times out."""
        if self.member is not None:
            self._group.silence(self.member)
        self._end()

    def standing(self) -> list[Standing]:
        """The partitions that are ours and can't be read, and why."""
        stood = {
            (key, position, reason): self._stood.get((key, position, reason), self._clock.now)
            for key, position in self._ours.reached.items()
            if (reason := self._obstacle(key, position)) is not None
        }
        self._stood = stood
        return [
            Standing(key, position, reason, "it can't be read", "see to it")
            for (key, position, reason), since in stood.items()
            if self._clock.now - since >= STANDING_S
        ]

    def _obstacle(self, key: TopicPartition, position: int) -> Reason | None:
        """What keeps us from reading on."""
        end = self._log.end_offset(key)
        if position > end:
            return Reason.OFFSET_BEYOND_END
        try:
            self._log.read(key, position, 1)
        except LogError as error:
            return Reason.UNREADABLE if error.code == "_BAD_MSG" else None
        return Reason.OPEN_TRANSACTION if position == self._log.last_stable_offset(key) < end else None

    def ahead(self) -> dict[TopicPartition, ReadState]:
        """What there is to read of the partitions that are ours."""
        return {key: self._ahead(key, position) for key, position in self._ours.reached.items()}

    def _ahead(self, key: TopicPartition, position: int) -> ReadState:
        try:
            found, _ = self._log.read(key, position, 1)
        except LogError:
            return ReadState(position, -1)
        return ReadState(position, self._log.last_stable_offset(key) if found else position)

    def call(self, function: Callable[[], Any], then: Callable[[], object] = lambda: None) -> Call:
        """Run a function on the source's task, soon; also while it waits for a release. `then` is called after."""
        call = Call(function, then)
        if self._closed:
            call.fail()
        else:
            self._calls.add(call)
            self._task.wake()
        return call

    def _end(self) -> None:
        self._closed = True
        self._task.end()
        self._ours.epochs.clear()
        self.ownership = Ownership(self.ownership.metadata)
        self._log.on_stable.remove(self._on_stable)
        self._calls.refuse()

    # --- what the coordinator says, after a while ---------------------------------------------------------------------

    def on_rebalance(self, member: str) -> None:
        self._deliver(member, self._told_to_join)

    def on_sync(self, member: str, generation: int, assignment: frozenset[TopicPartition]) -> None:
        self._deliver(member, lambda: self._synced(assignment), generation)

    def on_expelled(self, member: str) -> None:
        self._deliver(member, self._expelled)

    def on_fenced(self, member: str) -> None:
        self._deliver(member, self._fenced)

    def _deliver(self, member: str, act: Act, generation: int | None = None) -> None:
        """The client's own thread hears it first; what we do about it comes when the task polls again."""
        self._mail_at = max(self._mail_at, self._clock.now + self._latency(self.network_s))

        def arrive() -> None:
            if generation is not None and member == self.member:
                self._generation = generation
            self._mail.append((member, act))
            self._task.wake()

        self._clock.later(self._mail_at - self._clock.now, arrive)

    def _on_stable(self, partition: TopicPartition) -> None:
        if partition in self._ours.reached:
            self._task.wake()

    # --- the task -----------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[Wait, None, None]:
        yield self._latency(JOIN_S)
        yield from self._join()
        if self._instance is not None and self._heals_orphans:
            self._clock.later(self._revoke_deadline_s + ORPHAN_S, lambda: self._look_for_orphans(frozenset()))
        while True:
            yield from self._calls.serve()
            yield from self._assignment.perform(self._ours.look_at_held())
            if self._attempts.held:
                self._clock.later(LOOK_AT_HELD_S, self._task.wake)
            if self._mail:
                yield self._latency(POLL_S)  # between what the client knows and what we publish
                member, act = self._mail.popleft()
                if member == self.member:
                    yield from act()
                    self._publish()
            elif (yield from self._take()):
                yield self._latency(POLL_S)
            else:
                yield None

    def _publish(self) -> None:
        self.ownership = Ownership(self._metadata(), dict(self._ours.epochs))

    def _metadata(self) -> GroupMetadata:
        return GroupMetadata(self.member or "", self._generation, self._instance)

    def _told_to_join(self) -> Generator[Wait, None, None]:
        """Unless we have joined that rebalance already and wait for its end."""
        if not self._joining:
            yield from self._join()

    def _join(self) -> Generator[Wait, None, None]:
        self._joining = True
        self.member = self._group.join(self, self.member, self._assigned, self._instance)
        yield 0.0

    def _synced(self, assignment: frozenset[TopicPartition]) -> Generator[Wait, None, None]:
        self._joining = False
        revoked, added = sorted(self._assigned - assignment), sorted(assignment - self._assigned)
        if added:
            self._assigned |= frozenset(added)
            yield from self._assignment.perform(self._ours.assigned(added))
        if revoked:
            yield from self._assignment.perform(self._ours.revoked(frozenset(revoked)))
            self._assigned -= frozenset(revoked)
            yield from self._join()

    def _look_for_orphans(self, before: frozenset[TopicPartition]) -> None:
        """A static member that restarts is given its last assignment in a stable group. Had it been told to give up a
        partition, and died before it did, nobody would ever rebalance, and the partition would be nobody's. What is
        nobody's for longer than giving up takes is such an orphan: leave and join again."""
        if self._closed or self.member is None:
            return
        orphans = self._group.orphans
        if orphans & before:
            self._mail.append((self.member, self._join_anew))
            self._task.wake()
        elif orphans:
            self._clock.later(self._revoke_deadline_s + ORPHAN_S, lambda: self._look_for_orphans(orphans))

    def _join_anew(self) -> Generator[Wait, None, None]:
        if self._assigned:
            yield from self._assignment.perform(self._ours.revoked(self._assigned))
        self._assigned = frozenset()
        self._group.leave(self.member or "")
        self.member = None
        yield from self._join()

    def _expelled(self) -> Generator[Wait, None, None]:
        """The client's session is over: what we had is lost; join as a new member."""
        lost, self._assigned = self._assigned, frozenset()
        if lost:
            yield from self._assignment.perform(self._ours.lost(lost))
        self.member = None
        yield from self._join()

    def _fenced(self) -> Generator[Wait, None, None]:
        self._post(SourceFailed(ExitCode.FENCED, "another process joined the group under this slot"))
        yield from self._assignment.perform(self._ours.disown(sorted(self._assigned)))
        self.member = None
        while True:
            yield from self._calls.serve()
            yield None

    def _take(self) -> Generator[Wait, None, bool]:
        """Take what is there, as far as the grant allows; returns whether anything was taken."""
        attempts = self._attempts
        most = self._micro_batch_records if attempts.most is None else min(attempts.most, self._micro_batch_records)
        records = min(self._granted[0] - self._taken_records, most)
        if records <= 0 or self._granted[1] <= self._taken_bytes:
            return False
        if attempts.most is not None and self._done < self._number:
            return False
        positions = self._ours.reached
        found: dict[TopicPartition, list[MemoryRecord]] = {}
        ends: dict[TopicPartition, int] = {}
        for key, position in list(positions.items()):
            if records <= 0:
                break
            if attempts.on_trial not in (None, key) or key in attempts.held:
                continue
            try:
                read, ends[key] = self._log.read(key, position, records)
            except LogError:
                if self._log.start_offset(key) > position:
                    self._on_out_of_range(key, position)
                continue  # what can't be read is held alone, until the log moves
            if read:
                records -= len(read)
                found[key] = read
        if unmarked := attempts.unmarked & found.keys():
            yield from self._assignment.perform(self._ours.mark({key: found[key][0].offset() for key in unmarked}))
            for key in unmarked & attempts.unmarked:
                del found[key], ends[key]
                self._clock.later(POLL_S, self._task.wake)
        positions.update(ends)
        if not found:
            if attempts.most is not None and not unmarked:
                attempts.waited(self._clock.now)
                self._clock.later(RETRY_S, self._task.wake)
            return False
        segments = [self._segment(key, read) for key, read in found.items()]
        # The next micro-batch begins with another partition.
        first = next(iter(positions))
        positions[first] = positions.pop(first)
        self._number += 1
        batch = MicroBatch(self._number, segments, self._number, self._number, self._wall_ns(), self._clock.now)
        self._post(Taken(batch))
        return True

    def _segment(self, key: TopicPartition, records: list[MemoryRecord]) -> Segment:
        size_bytes = sum(len(one) + len(one.key() or b"") + RECORD_OVERHEAD_BYTES for one in records)
        self._taken_records += len(records)
        self._taken_bytes += size_bytes
        return Segment(key[0], key[1], self._ours.epochs[key], list(records), size_bytes=size_bytes)

    def _on_out_of_range(self, key: TopicPartition, position: int) -> None:
        start = self._log.start_offset(key)
        if not self._skip_out_of_range:
            self._ours.reached.pop(key)
            message = f"{key[0]}/{key[1]}: retention deleted {start - position} records before they were read"
            self._post(SourceFailed(ExitCode.CONFIGURATION, message))
            return
        self.out_of_range_records += start - position
        self._ours.reached[key] = start
        self._task.wake()
