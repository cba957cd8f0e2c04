"""A source over the in-memory log. It keeps to the steps of the real one, with a task in place of its thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from streamer.config.pipeline import DEFAULTS
from streamer.core.intake import ByPartition, Intake, SourcePolicy
from streamer.core.membership import LOOK_AT_HELD_S, Membership
from streamer.core.obstacles import RETRY_S as UNREADABLE_S
from streamer.core.obstacles import Damage, Ends, Unreadable, judge
from streamer.core.ownership import Ownership
from streamer.core.pipeline.attempts import Attempts, Former
from streamer.core.pipeline.protocol import SourceFailed, Taken
from streamer.core.read_progress import ReadProgress
from streamer.core.record import MicroBatch, TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.core.unanswered import ReadState
from streamer.errors import ExitCode
from streamer.ports import Post
from streamer.testing.assignment import RETRY_S, Call, Calls, MemoryAssignment
from streamer.testing.clock import Latency, ManualClock, Task, Wait, exactly
from streamer.testing.group import NOBODY, Group
from streamer.testing.log import MemoryLog
from streamer.testing.log_error import LogError
from streamer.testing.member import GroupMember

JOIN_S = 0.05
POLL_S = 0.004


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
        crash_limit: int = DEFAULTS["crash_limit"],
        latency: Latency = exactly,
        wall_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self.ownership = Ownership(NOBODY)
        self._log = log
        self._post = post
        self._clock = clock
        self._policy = policy = SourcePolicy(
            list(topics),
            micro_batch_records=micro_batch_records,
            revoke_deadline_s=revoke_deadline_s,
            skip_out_of_range=skip_out_of_range,
            crash_limit=crash_limit,
        )
        self._latency = latency
        self._wall_ns = wall_ns
        self._attempts = Attempts(crash_limit)
        self._in_order = False
        self._granted = (0, 0)
        self._paused: frozenset[TopicPartition] = frozenset()
        self._calls = Calls()
        self._closed = False
        self._task = Task(clock, self._run())
        self._attempts.started(Former(group.owners))
        self._ours = Membership(self._attempts, revoke_deadline_s=revoke_deadline_s)
        self.intake = Intake(policy, self._ours, self._attempts)
        self._read_progress = ReadProgress(policy.stuck_s, policy.stand_s)
        self._unreadable = Unreadable(policy.group, policy.address)
        self._assignment = MemoryAssignment(
            self._ours,
            log,
            group,
            self._calls,
            post,
            clock,
            metadata=lambda: self.member.metadata,
            changed=self._publish,
            wake=self._task.wake,
        )
        self.member = GroupMember(
            group,
            self._assignment,
            post,
            clock,
            instance=instance,
            revoke_deadline_s=revoke_deadline_s,
            latency=latency,
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

    def pause(self, partitions: frozenset[TopicPartition]) -> None:
        """Read nothing more of exactly these for now."""
        self._paused = partitions
        self._task.wake()

    def done(self, batch: MicroBatch) -> None:
        """All of this micro-batch is durable or dropped."""
        self.intake.done(batch)
        self._task.wake()

    def release(self, epoch: int) -> None:
        """Let revoked partitions go."""
        self._assignment.release(epoch)

    def note(self, partition: TopicPartition, offset: int) -> str:
        """The metadata with which this offset is to be settled."""
        return self._attempts.note(partition, offset)

    @property
    def careful(self) -> bool:
        """Whether records are handed over a few at a time, since processes died with them."""
        return self._attempts.most is not None

    def rewind(self, partitions: frozenset[TopicPartition]) -> None:
        """Read again from the committed offsets."""
        self.call(lambda: self._assignment.perform(self._ours.rewind(partitions)))

    def mark_clean_end(self) -> None:
        """The process ends in order."""
        self._in_order = True

    def close(self, timeout_s: float) -> None:
        """Leave the group at once, or, as a static member, fall silent until the session times out."""
        if self._in_order:
            for _ in self._assignment.perform(self._ours.end_in_order(self._ours.epochs)):
                raise AssertionError("it has no time to wait")
        self.member.leave()
        self._end()

    def kill(self) -> None:
        """End as by kill -9: nobody is told, the session times out."""
        self.member.fall_silent()
        self._end()

    def standing(self) -> list[Standing]:
        """The partitions that are ours and can't be read, and why. What there is to give is given at once, so that
        nothing stands but for what lies in its way."""
        log, policy = self._log, self._policy
        ends = {key: Ends(log.last_stable_offset(key), log.end_offset(key)) for key in self._ours.reached}
        highs = {key: each.high for key, each in ends.items()}
        self._read_progress.look(self._ours.reached, highs, frozenset(), self._clock.now)
        found = [
            judge(key, one, ends[key], group=policy.group, address=policy.address, stand_s=policy.stand_s)
            for key, one in self._read_progress.suspects.items()
        ]
        beyond = [
            Standing(key, position, Reason.OFFSET_BEYOND_END, "the log ends before it", "see to it")
            for key, position in self._ours.reached.items()
            if position > highs[key]
        ]
        stand = [*filter(None, found), *self._unreadable.standing(), *self.intake.held(self._read_progress.ahead)]
        return [*beyond, *stand]

    def ahead(self) -> dict[TopicPartition, ReadState]:
        """What there is to read of the partitions that are ours."""
        return {key: self._ahead(key, position) for key, position in self._ours.reached.items()}

    def _ahead(self, key: TopicPartition, position: int) -> ReadState:
        try:
            found, _ = self._log.read(key, position, 1)
        except LogError:
            return ReadState(position, -1)
        end = self._log.last_stable_offset(key) if found else position
        return ReadState(position, end, careful=self.intake.most == 0)

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

    def _on_stable(self, partition: TopicPartition) -> None:
        if partition in self._ours.reached:
            self._task.wake()

    # --- the task -----------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[Wait, None, None]:
        yield self._latency(JOIN_S)
        yield from self.member.start()
        while True:
            yield from self._calls.serve()
            if self.member.fenced:
                yield None
                continue
            self.intake.note_settled(self._clock.now)
            yield from self._assignment.perform(self._ours.look_at_held())
            if self._attempts.held:
                self._clock.later(LOOK_AT_HELD_S, self._task.wake)
            if self.member.has_mail:
                yield self._latency(POLL_S)  # between what the client knows and what we publish
                if (yield from self.member.listen()) and not self.member.fenced:
                    self._publish()
            elif (yield from self._take()):
                yield self._latency(POLL_S)
            else:
                yield None

    def _publish(self) -> None:
        self._unreadable.keep(self._ours.epochs.keys())
        self.ownership = Ownership(self.member.metadata, dict(self._ours.epochs))

    def _take(self) -> Generator[Wait, None, bool]:
        """Take what is there, as far as the grant allows; returns whether anything was taken."""
        intake, positions = self.intake, self._ours.reached
        records = min(self._granted[0] - intake.records, intake.most)
        if records <= 0 or self._granted[1] <= intake.size_bytes:
            return False
        self._unreadable.retry(self._clock.now)
        unasked = intake.waiting | self._unreadable.held | self._paused
        found: ByPartition = {}
        ends: dict[TopicPartition, int] = {}
        for key, position in list(positions.items()):
            if records <= 0:
                break
            if key in unasked:
                continue
            try:
                read, ends[key] = self._log.read(key, position, records)
            except LogError as error:
                yield from self._on_error(key, position, error)
                continue
            if read:
                records -= len(read)
                found[key] = list(read)
        self._unreadable.gave(found)
        first = {key: len(read) for key, read in found.items()}
        yield from self._assignment.perform(intake.keep(found, self._ours.epochs))
        if first.keys() - found.keys():
            self._clock.later(POLL_S, self._task.wake)
        if not found:
            positions.update({key: end for key, end in ends.items() if key not in first})
            if self._attempts.most is not None and not first:
                intake.nothing_came(self._clock.now)
                self._clock.later(RETRY_S, self._task.wake)
            return False
        number = intake.records + 1
        batch = intake.batch(found, number, number, self._wall_ns(), self._clock.now)
        # Behind the markers that follow, too, unless something was given back.
        positions.update({key: end for key, end in ends.items() if len(found.get(key, ())) == first.get(key, 0)})
        # The next micro-batch begins with another partition.
        head = next(iter(positions))
        positions[head] = positions.pop(head)
        self._post(Taken(batch))
        return True

    def _on_error(self, key: TopicPartition, position: int, error: LogError) -> Generator[Wait, None, None]:
        """What can't be read is held alone; what retention took is skipped, or ends the source. What is read from
        beyond the log's end waits for the log."""
        start, now = self._log.start_offset(key), self._clock.now
        if error.code == "_BAD_MSG":
            self._unreadable.hold(key, position, Damage.CHECKSUM, now)
            self._clock.later(UNREADABLE_S, self._task.wake)
        elif position < start:
            steps = self.intake.out_of_range(key, position, start, self._log.end_offset(key))
            if words := (yield from self._assignment.perform(steps)):
                self._ours.reached.pop(key)
                self._post(SourceFailed(ExitCode.CONFIGURATION, words))
            self._task.wake()
