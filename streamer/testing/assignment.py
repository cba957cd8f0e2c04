"""What a source over the in-memory log owns, since when and from where on: the real one's callbacks, step by step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress

from streamer.core.pipeline.attempts import Attempts, Former, Mark
from streamer.core.pipeline.protocol import Assigned, Lost, Revoking
from streamer.core.record import TopicPartition
from streamer.ports import Post
from streamer.testing.calls import Calls
from streamer.testing.clock import ManualClock, Wait
from streamer.testing.group import Group, GroupMetadata
from streamer.testing.log import MemoryLog
from streamer.testing.log_error import LogError

RETRY_S = 0.05
LOOK_AT_HELD_S = 0.5


class MemoryAssignment:
    """`positions` are the next offsets to read. `metadata` says who we are in the group now, `changed` is called
    whenever what we own has changed, `wake` makes the source's task go on."""

    def __init__(
        self,
        log: MemoryLog,
        group: Group,
        attempts: Attempts,
        calls: Calls,
        post: Post,
        clock: ManualClock,
        *,
        revoke_deadline_s: float,
        metadata: Callable[[], GroupMetadata],
        changed: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self.epochs: dict[TopicPartition, int] = {}
        self.positions: dict[TopicPartition, int] = {}
        self._log = log
        self._group = group
        self._attempts = attempts
        self._calls = calls
        self._post = post
        self._clock = clock
        self._revoke_deadline_s = revoke_deadline_s
        self._metadata = metadata
        attempts.started(Former(group.owners))
        self._look_at = 0.0
        self._changed = changed
        self._wake = wake
        self._epoch = 0
        self._released: set[int] = set()

    def release(self, epoch: int) -> None:
        """The core lets these revoked partitions go."""
        self._released.add(epoch)
        self._wake()

    def on_assign(self, partitions: list[TopicPartition]) -> Generator[Wait, None, None]:
        """Read on from the committed offsets."""
        while True:
            try:
                starts = self._starts(partitions)
                break
            except LogError:
                yield RETRY_S  # a transaction of the partitions' earlier owner is open
        self._attempts.joined(self._metadata().member)
        self._begin(starts)
        self._changed()

    def on_revoke(self, partitions: list[TopicPartition]) -> Generator[Wait, None, None]:
        """Wait until the core has settled what it can and lets go, or the deadline passes; serve calls meanwhile."""
        self._changed()
        self._epoch += 1
        epoch = self._epoch
        self._post(Revoking(epoch, frozenset(partitions)))
        deadline = self._clock.now + self._revoke_deadline_s
        self._clock.later(self._revoke_deadline_s, self._wake)
        while epoch not in self._released and self._clock.now < deadline:
            self._calls.serve()
            yield None
        if epoch in self._released:
            self._end_in_order(partitions)
        self._released.discard(epoch)
        self.disown(partitions)

    def on_lost(self, partitions: list[TopicPartition]) -> None:
        """They are somebody else's already."""
        self.disown(partitions)
        if partitions:
            self._post(Lost(frozenset(partitions)))

    def rewind(self, partitions: Iterable[TopicPartition]) -> bool:
        """Read again from the committed offsets, under a new epoch; returns whether any of these are ours."""
        mine = sorted(key for key in partitions if key in self.epochs)
        if mine:
            self._begin(self._starts(mine))
        return bool(mine)

    def look_at_held(self) -> bool:
        """Read on where a person has ended a hold, looking now and then; returns whether there was one."""
        if not self._attempts.held or self._clock.now < self._look_at:
            return False
        self._look_at = self._clock.now + LOOK_AT_HELD_S
        self._clock.later(LOOK_AT_HELD_S, self._wake)
        now = {key: (self._group.offsets[key], self._group.notes[key]) for key in self._attempts.held}
        try:
            return self.rewind(key for key, mark in list(self._attempts.held.items()) if now[key] != mark)
        except LogError:
            return False

    def mark(self, firsts: dict[TopicPartition, int]) -> None:
        """Note that records of these partitions are about to be handed over."""
        with suppress(LogError):
            self._commit(self._attempts.marks(firsts))
        self._attempts.marked(firsts)

    def end_in_order(self) -> None:
        """What is in our hands is not to blame for the end."""
        self._end_in_order(self.epochs)

    def disown(self, partitions: Iterable[TopicPartition]) -> None:
        """These are not ours any more."""
        self._attempts.dropped(partitions)
        for key in partitions:
            self.epochs.pop(key, None)
            self.positions.pop(key, None)
        self._changed()

    def _starts(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where to read from; a start that was not committed before is, at once."""
        committed = self._group.committed(partitions)
        fresh = {key: self._log.start_offset(key) for key in partitions if key not in committed}
        if fresh:
            with suppress(LogError):  # then the next owner finds it anew
                notes = {key: self._attempts.note(key, offset) for key, offset in fresh.items()}
                self._group.commit(fresh, self._metadata(), notes)
        return {key: committed[key] if key in committed else fresh[key] for key in partitions}

    def _begin(self, starts: dict[TopicPartition, int]) -> None:
        """Read from these offsets, but for what is held."""
        found = {key: (offset, self._group.notes.get(key, "")) for key, offset in starts.items()}
        self._attempts.assigned(found, self._clock.now)
        held = self._attempts.held
        with suppress(LogError):
            self._commit({key: held[key] for key, mark in found.items() if key in held and held[key] != mark})
        self._own(starts)

    def _own(self, starts: dict[TopicPartition, int]) -> None:
        self._epoch += 1
        epochs = dict.fromkeys(starts, self._epoch)
        self.epochs.update(epochs)
        self.positions.update(starts)
        self._post(Assigned(epochs))

    def _end_in_order(self, partitions: Iterable[TopicPartition]) -> None:
        """Say of these partitions that they were let go in order."""
        with suppress(LogError):
            mine = self.epochs.keys() - self._attempts.held.keys()
            now = self._group.committed(key for key in partitions if key in mine)
            self._commit({key: (at, self._attempts.ended(self._group.notes[key])) for key, at in now.items()})

    def _commit(self, marks: dict[TopicPartition, Mark]) -> None:
        """Raises LogError."""
        if marks:
            offsets = {key: offset for key, (offset, _) in marks.items()}
            self._group.commit(offsets, self._metadata(), {key: note for key, (_, note) in marks.items()})
