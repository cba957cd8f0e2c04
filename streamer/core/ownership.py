"""Which partitions are ours, and the group metadata to prove it: written by the source thread, read by the sink."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamer.core.record import TopicPartition


@dataclass(frozen=True, slots=True)
class Ownership:
    """One moment's membership. Replaced whole, so that a reader on another thread sees both parts of one moment.

    Metadata is never kept with a micro-batch: under cooperative-sticky the generation moves before `on_revoke` is
    called, and old metadata gives ILLEGAL_GENERATION even for partitions that we keep. Fresh metadata is accepted for
    partitions that another member owns, so the epochs must be compared too (both measured on Kafka 4.3).
    """

    metadata: Any = None
    epochs: dict[TopicPartition, int] = field(default_factory=dict)

    def holds(self, epochs: dict[TopicPartition, int]) -> bool:
        """Whether all these partitions are still ours, without a break since the given assignments."""
        mine = self.epochs
        return all(mine.get(key) == epoch for key, epoch in epochs.items())
