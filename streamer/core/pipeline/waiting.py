"""What waits because no worker is ready, for whoever is told of partitions that stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamer.core.pipeline.pipeline import Phase, Pipeline
from streamer.core.standing import Reason, Standing

_FIX = "see the log for how workers end: the model, its device or this machine's memory and disks are at fault"


def waiting(pipeline: Pipeline, topics: Iterable[str], now: float) -> Iterator[Standing]:
    """Each partition whose records wait for a worker, from its first one on; all the input `topics` before the group is
    joined."""
    what = pipeline.fleet.stands(now)
    if not what:
        return
    if pipeline.phase is Phase.LOADING:
        for topic in topics:
            yield Standing((topic, -1), -1, Reason.MODEL, what, _FIX)
    for key, partition in pipeline.ledger.partitions.items():
        if partition.segments:
            segment = partition.segments[0][1]
            first = segment.records[min(segment.planned, len(segment.records) - 1)]
            yield Standing(key, first.offset(), Reason.MODEL, what, _FIX)
