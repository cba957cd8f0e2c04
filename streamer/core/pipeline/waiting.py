"""What waits for workers, for whoever is told of partitions that stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamer.core.pipeline.fleet import STANDS_S, Fleet
from streamer.core.pipeline.flights import Flight
from streamer.core.pipeline.pipeline import Phase, Pipeline
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing

_FIX = "see the log for how workers end: the cause is the model, its device, or this machine's memory or disks"
_SLOW = "raise lease_s if the model is this slow; if it hangs, it is killed when lease_s is over"
_SERVER = "nothing is lost: what waits is answered as soon as the server is; see to the server, or correct its address"
_TRIED = "wait: it will be answered, or become a dead letter; a lower lease_s makes that sooner"


def waiting(pipeline: Pipeline, topics: Iterable[str], now: float) -> Iterator[Standing]:
    """Each partition whose records wait for a worker, from its first one on; all the input `topics` before the group is
    joined."""
    what = pipeline.fleet.stands(now)
    if not what:
        yield from _under_way(pipeline.fleet, now)
        return
    if pipeline.phase is Phase.LOADING:
        for topic in topics:
            yield Standing((topic, -1), -1, Reason.MODEL, what, _FIX)
    for key, partition in pipeline.ledger.partitions.items():
        if partition.segments:
            segment = partition.segments[0][1]
            first = segment.records[min(segment.planned, len(segment.records) - 1)]
            yield Standing(key, first.offset(), Reason.MODEL, what, _FIX)


def _under_way(fleet: Fleet, now: float) -> Iterator[Standing]:
    """What is computed for long, and what is tried alone."""
    for worker in fleet.workers:
        if worker.holding:
            yield from _each(worker.held.values(), worker.holding, _SERVER)
        for numbers, deadline in ((worker.announced, worker.deadline), (worker.encoding, worker.encode_deadline)):
            since = now - (deadline - fleet.lease_s)
            if numbers and since >= STANDS_S and not worker.alone:
                what = f"worker {worker.number} has been computing it, with others, for {since:.0f} s"
                held = [worker.held[number] for number in numbers if number in worker.held]
                yield from _each(held, what, _SLOW)
    if fleet.tried_since is not None and now - fleet.tried_since >= STANDS_S:
        what = f"it may have ended a worker, and has been tried alone for {now - fleet.tried_since:.0f} s"
        alone = [flight for worker in fleet.workers if worker.alone for flight in worker.held.values()]
        yield from _each([*alone, *fleet.suspects], what, _TRIED)


def _each(flights: Iterable[Flight], what: str, fix: str) -> Iterator[Standing]:
    first: dict[TopicPartition, int] = {}
    for flight in flights:
        for segment, index in flight.waiters:
            if not segment.dropped:
                key, offset = (segment.topic, segment.partition), segment.records[index].offset()
                first[key] = min(offset, first.get(key, offset))
    for key, offset in first.items():
        yield Standing(key, offset, Reason.MODEL, what, fix)
