"""What a source over the in-memory log owns, since when and from where on: the real one's callbacks, step by step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress

from streamer.core.pipeline.attempts import Attempts, Mark
from streamer.core.pipeline.protocol import Assigned, Lost, Revoking
from streamer.core.record import TopicPartition
from streamer.ports import Post
from streamer.testing.calls import Calls
from streamer.testing.clock import ManualClock, Wait
from streamer.testing.group import Group, GroupMetadata
from streamer.testing.log import MemoryLog
from streamer.testing.log_error import LogError

RETRY_S = 0.05


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
        found = {key: (offset, self._group.notes.get(key, "")) for key, offset in starts.items()}
        self._attempts.assigned(found, self._clock.now)
        self._own(starts)
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
            self._unmark(self._attempts.left(partitions))
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
            starts = self._starts(mine)
            self._attempts.moved(starts, self._clock.now)
            self._own(starts)
        return bool(mine)

    def mark(self, ends: dict[TopicPartition, int]) -> None:
        """Note that these partitions' records are about to be handed over."""
        with suppress(LogError):
            self._commit(self._attempts.hand_over(ends, self._clock.now))

    def end_in_order(self) -> None:
        """What is in our hands is not to blame for the end."""
        self._unmark(self._attempts.left(self.epochs, stopping=True))

    def disown(self, partitions: Iterable[TopicPartition]) -> None:
        """These are not ours any more."""
        self._attempts.left(partitions)
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
                self._group.commit(fresh, self._metadata())
        return {key: committed[key] if key in committed else fresh[key] for key in partitions}

    def _own(self, starts: dict[TopicPartition, int]) -> None:
        self._epoch += 1
        epochs = dict.fromkeys(starts, self._epoch)
        self.epochs.update(epochs)
        self.positions.update(starts)
        self._post(Assigned(epochs))

    def _unmark(self, marks: dict[TopicPartition, Mark]) -> None:
        """Take attempts back, where nothing was settled since they were noted."""
        with suppress(LogError):
            now = self._group.committed(marks)
            self._commit({key: mark for key, mark in marks.items() if now.get(key) == mark[0]})

    def _commit(self, marks: dict[TopicPartition, Mark]) -> None:
        """Raises LogError."""
        if marks:
            offsets = {key: offset for key, (offset, _) in marks.items()}
            self._group.commit(offsets, self._metadata(), {key: note for key, (_, note) in marks.items()})
