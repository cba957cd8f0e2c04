"""Which partitions are ours, and the group metadata to prove it, as `kafka/ownership` has them."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.core.record import TopicPartition
from streamer.testing.group import GroupMetadata

NOBODY = GroupMetadata("", -1)


@dataclass(frozen=True, slots=True)
class MemoryOwnership:
    """One moment's membership, as the sink reads it: metadata and epochs of the same moment."""

    metadata: GroupMetadata = NOBODY
    epochs: dict[TopicPartition, int] = field(default_factory=dict)

    def holds(self, epochs: dict[TopicPartition, int]) -> bool:
        """Whether all these partitions are still ours, without a break since the given assignments."""
        mine = self.epochs
        return all(mine.get(key) == epoch for key, epoch in epochs.items())
