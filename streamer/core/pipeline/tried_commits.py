"""At least once: an offset that a commit without an answer may have left behind is never taken back."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from streamer.core.pipeline.protocol import Settle
from streamer.core.record import TopicPartition


@dataclass(slots=True)
class TriedCommits:
    """The largest offset that was ever to be committed of each partition, under its last epoch. All outcomes before it
    were delivered before, so that a later, smaller plan may commit it as well."""

    _tried: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)

    def raise_to_tried(self, plan: Settle) -> Settle:
        """The plan with no offset below one that was tried before. To be called before each commit."""
        offsets = {}
        for key, offset in plan.offsets.items():
            epoch, tried = self._tried.get(key, (-1, 0))
            offsets[key] = max(offset, tried) if epoch == plan.epochs[key] else offset
            self._tried[key] = plan.epochs[key], offsets[key]
        return msgspec.structs.replace(plan, offsets=offsets)
