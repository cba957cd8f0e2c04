"""A source's membership in a group of the in-memory log: it joins, hears the coordinator, and does as it is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator

from streamer.core.membership import Membership
from streamer.core.pipeline.protocol import SourceFailed
from streamer.core.record import TopicPartition
from streamer.errors import ExitCode
from streamer.ports import Post
from streamer.testing.assignment import MemoryAssignment
from streamer.testing.clock import Latency, ManualClock, Wait
from streamer.testing.group import Group, GroupMetadata

NETWORK_S = 0.01
ORPHAN_S = 0.5

Act = Callable[[], Generator[Wait, None, None]]


class GroupMember:
    """`streamer.testing.group.GroupClient`. `id` is None while it is no member; `instance` makes it a static one, which
    is `fenced` once another process has its instance. `wake` makes the source's task go on, which calls `listen`."""

    def __init__(
        self,
        group: Group,
        assignment: MemoryAssignment,
        post: Post,
        clock: ManualClock,
        *,
        instance: str | None,
        revoke_deadline_s: float,
        latency: Latency,
        wake: Callable[[], None],
    ) -> None:
        self.id: str | None = None
        self.fenced = False
        self.network_s = NETWORK_S  # how long the coordinator's word takes to us
        self._group = group
        self._assignment = assignment
        self._post = post
        self._clock = clock
        self._instance = instance
        self._orphaned_s = revoke_deadline_s + ORPHAN_S
        self._latency = latency
        self._wake = wake
        self._generation = -1
        self._joining = False
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._mail: deque[tuple[str, Act]] = deque()
        self._mail_at = 0.0

    @property
    def metadata(self) -> GroupMetadata:
        """Who we are in the group, as our client knows it."""
        return GroupMetadata(self.id or "", self._generation, self._instance)

    @property
    def has_mail(self) -> bool:
        """Whether the coordinator has said something that we have not acted on."""
        return bool(self._mail)

    def start(self) -> Generator[Wait, None, None]:
        """Join for the first time."""
        yield from self._join()
        if self._instance is not None:
            self._clock.later(self._orphaned_s, lambda: self._look_for_orphans(frozenset()))

    def listen(self) -> Generator[Wait, None, bool]:
        """Do what the oldest word of the coordinator asks for; False where it was said to who we were before."""
        member, act = self._mail.popleft()
        if member != self.id:
            return False
        yield from act()
        return True

    def leave(self) -> None:
        """Leave at once, or, as a static member, fall silent until the session times out."""
        if self.id is not None and self._instance is None:
            self._group.leave(self.id)
            self.id = None
        self.fall_silent()

    def fall_silent(self) -> None:
        """End without a word: the session times out."""
        if self.id is not None:
            self._group.silence(self.id)
            self.id = None

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
            if generation is not None and member == self.id:
                self._generation = generation
            self._mail.append((member, act))
            self._wake()

        self._clock.later(self._mail_at - self._clock.now, arrive)

    # --- what we do about it ------------------------------------------------------------------------------------------

    @property
    def _ours(self) -> Membership:
        return self._assignment.ours

    def _told_to_join(self) -> Generator[Wait, None, None]:
        """Unless we have joined that rebalance already and wait for its end."""
        if not self._joining:
            yield from self._join()

    def _join(self) -> Generator[Wait, None, None]:
        self._joining = True
        self.id = self._group.join(self, self.id, self._assigned, self._instance)
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
        if self.id is None:
            return
        orphans = self._group.orphans
        if orphans & before:
            self._mail.append((self.id, self._rejoin))
            self._wake()
        elif orphans:
            self._clock.later(self._orphaned_s, lambda: self._look_for_orphans(orphans))

    def _rejoin(self) -> Generator[Wait, None, None]:
        if self._assigned:
            yield from self._assignment.perform(self._ours.revoked(self._assigned))
        self._assigned = frozenset()
        self._group.leave(self.id or "")
        self.id = None
        yield from self._join()

    def _expelled(self) -> Generator[Wait, None, None]:
        """The client's session is over: what we had is lost; join as a new member."""
        lost, self._assigned = self._assigned, frozenset()
        if lost:
            yield from self._assignment.perform(self._ours.lost(lost))
        self.id = None
        yield from self._join()

    def _fenced(self) -> Generator[Wait, None, None]:
        self.fenced = True
        self._post(SourceFailed(ExitCode.FENCED, "another process joined the group under this slot"))
        yield from self._assignment.perform(self._ours.disown(sorted(self._assigned)))
        self.id = None
