"""A consumer group as the broker's coordinator keeps it: members, generations, cooperative rebalances, offsets.

The classic protocol with the cooperative-sticky assignor. A rebalance ends when all members have joined again; then
the generation moves and everybody gets an assignment. A partition that another member still owns is withheld: its
owner learns by its own assignment that it has to give it up, and joins again once it has, which gives the partition
to its new owner in the next generation. https://cwiki.apache.org/confluence/display/KAFKA/KIP-429
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from streamer.core.record import TopicPartition
from streamer.testing.clock import ManualClock
from streamer.testing.log_error import LogError


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    """Who speaks, and of which generation."""

    member: str
    generation: int
    instance: str | None = None


NOBODY = GroupMetadata("", -1)


class GroupClient(Protocol):
    """What the coordinator tells `member`, which a client may not be any more when it hears it."""

    def on_rebalance(self, member: str) -> None:
        """Join again (the answer to a heartbeat)."""

    def on_sync(self, member: str, generation: int, assignment: frozenset[TopicPartition]) -> None:
        """The rebalance is over: this is your generation and your assignment."""

    def on_expelled(self, member: str) -> None:
        """You are no member any more: what you own is lost."""

    def on_fenced(self, member: str) -> None:
        """Another process joined under your instance id."""


@dataclass(slots=True, eq=False)
class _Member:
    id: str
    client: GroupClient
    instance: str | None
    owned: frozenset[TopicPartition]
    joined: bool = True  # in the rebalance under way
    assignment: frozenset[TopicPartition] = frozenset()


class Group:
    """One group's coordinator. `on_offsets` is told of offsets as they are committed; `notes` is their metadata."""

    def __init__(self, clock: ManualClock, partitions: list[TopicPartition], session_timeout_s: float) -> None:
        self.generation = 0
        self.rebalances = 0
        self.offsets: dict[TopicPartition, int] = {}
        self.notes: dict[TopicPartition, str] = {}
        self.on_offsets: list[Callable[[dict[TopicPartition, int]], None]] = []
        self._clock = clock
        self._partitions = partitions
        self._session_timeout_s = session_timeout_s
        self._members: dict[str, _Member] = {}
        self._fenced: set[str] = set()
        # Offset, when it was asked for, and its note.
        self._pending: dict[Any, dict[TopicPartition, tuple[int, int, str]]] = {}
        self._commits = 0
        self._committed_at: dict[TopicPartition, int] = {}
        self._rebalancing = False
        self._numbers = 0

    # --- membership ------------------------------------------------------------------------------------------------

    @property
    def members(self) -> list[str]:
        """The members' ids."""
        return list(self._members)

    @property
    def owners(self) -> dict[TopicPartition, str]:
        """Which member has which partition, as a description of the group tells; members that died count until their
        session times out."""
        return {key: one.id for one in self._members.values() for key in one.assignment}

    @property
    def stable(self) -> bool:
        """Whether no rebalance is under way."""
        return not self._rebalancing

    @property
    def orphans(self) -> frozenset[TopicPartition]:
        """Partitions that nobody was assigned, as a description of the group tells; empty while it rebalances."""
        if self._rebalancing:
            return frozenset()
        return frozenset(self._partitions).difference(*(one.assignment for one in self._members.values()))

    def join(
        self, client: GroupClient, member: str | None, owned: frozenset[TopicPartition], instance: str | None = None
    ) -> str:
        """Join, or join again; returns the member's id. Ends in `on_sync`, or in `on_expelled` for an id that is not
        known (any more). A new process under a known instance id takes the place of the old one, which is fenced; in
        a stable group it gets that one's assignment at once and nobody else notices."""
        if member is not None:
            known = self._members.get(member)
            if known is None:
                (client.on_fenced if member in self._fenced else client.on_expelled)(member)
                return member
            known.owned, known.joined = owned, True
            self._rebalance()
            return member
        self._numbers += 1
        member = f"{instance or 'member'}-{self._numbers}"
        before = next((one for one in self._members.values() if one.instance == instance), None)
        if instance is None or before is None:
            self._members[member] = _Member(member, client, instance, owned)
            self._rebalance()
            return member
        del self._members[before.id]
        self._members[member] = _Member(member, client, instance, owned, self._rebalancing, before.assignment)
        self._fenced.add(before.id)
        before.client.on_fenced(before.id)
        if self._rebalancing:
            self._complete()
        else:
            client.on_sync(member, self.generation, before.assignment)
        return member

    def leave(self, member: str) -> None:
        """Go; the others rebalance at once."""
        if self._members.pop(member, None) is not None:
            self._rebalance()

    def expel(self, member: str) -> None:
        """What a session timeout does. The member learns of it when it speaks next."""
        gone = self._members.get(member)
        if gone is not None:
            self.leave(member)
            gone.client.on_expelled(member)

    def silence(self, member: str) -> None:
        """The member's heartbeats end here; its session times out."""
        self._clock.later(self._session_timeout_s, lambda: self.leave(member))

    def _rebalance(self) -> None:
        if not self._rebalancing:
            self._rebalancing = True
            self.rebalances += 1
            for one in self._members.values():
                if not one.joined:
                    one.client.on_rebalance(one.id)
        self._complete()

    def _complete(self) -> None:
        """End the rebalance if all have joined."""
        if not self._members:
            self._rebalancing = False
            self.generation += 1
            return
        if not all(one.joined for one in self._members.values()):
            return
        self._rebalancing = False
        self.generation += 1
        for member, assignment in self._assign().items():
            one = self._members[member]
            one.assignment, one.joined = assignment, False
            one.client.on_sync(member, self.generation, assignment)

    def _assign(self) -> dict[str, frozenset[TopicPartition]]:
        """Balanced, and everybody keeps what they own where that is balanced. A partition that has to move is given to
        nobody while its owner still has it."""
        partitions = set(self._partitions)
        owned = {one.id: one.owned & partitions for one in self._members.values()}
        order = sorted(owned, key=lambda member: (-len(owned[member]), member))
        least, extra = divmod(len(partitions), len(order))
        given: dict[str, set[TopicPartition]] = {}
        for index, member in enumerate(order):
            quota = least + (index < extra)
            given[member] = set(sorted(owned[member])[:quota])
        free = sorted(partitions - set().union(*given.values()))
        still_owned = set().union(*owned.values())
        for index, member in enumerate(order):
            quota = least + (index < extra)
            while len(given[member]) < quota:
                given[member].add(free.pop(0))
        return {
            member: frozenset(key for key in keys if key in owned[member] or key not in still_owned)
            for member, keys in given.items()
        }

    # --- offsets -----------------------------------------------------------------------------------------------------

    def check(self, metadata: GroupMetadata) -> None:
        """Raises ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID. Who owns what is not looked at."""
        if metadata.member in self._fenced:
            raise LogError("FENCED_INSTANCE_ID")
        if metadata.member not in self._members:
            raise LogError("UNKNOWN_MEMBER_ID")
        if metadata.generation != self.generation:
            raise LogError("ILLEGAL_GENERATION")

    def commit(
        self,
        offsets: dict[TopicPartition, int],
        metadata: GroupMetadata,
        notes: dict[TopicPartition, str] | None = None,
    ) -> None:
        """Commit outside a transaction, with `notes` as the offsets' metadata. Raises as `check` does."""
        self.check(metadata)
        self._commits += 1
        self._commit(offsets, self._commits, notes or {})

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The committed offsets, without those that there are none of. Raises UNSTABLE_OFFSET_COMMIT while a
        transaction with offsets of one of these partitions is open (KIP-447)."""
        wanted = set(partitions)
        if any(not wanted.isdisjoint(offsets) for offsets in self._pending.values()):
            raise LogError("UNSTABLE_OFFSET_COMMIT")
        return {key: self.offsets[key] for key in sorted(wanted) if key in self.offsets}

    def pend(self, transaction: Any, offsets: dict[TopicPartition, int], notes: dict[TopicPartition, str]) -> None:
        """Keep a transaction's offsets until it ends."""
        self._commits += 1
        timed = {key: (offset, self._commits, notes.get(key, "")) for key, offset in offsets.items()}
        self._pending.setdefault(transaction, {}).update(timed)

    def resolve(self, transaction: Any, offsets: dict[TopicPartition, int]) -> None:
        """The transaction ended; these of its offsets count, unless others were committed after they were added."""
        for key, (offset, at, note) in self._pending.pop(transaction, {}).items():
            if key in offsets and at > self._committed_at.get(key, 0):
                self._commit({key: offset}, at, {key: note})

    def _commit(self, offsets: dict[TopicPartition, int], at: int, notes: dict[TopicPartition, str]) -> None:
        for key, offset in offsets.items():
            self.offsets[key], self._committed_at[key] = offset, at
            self.notes[key] = notes.get(key, "")
        for watch in self.on_offsets:
            watch(offsets)
