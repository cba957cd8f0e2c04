"""The general rule: a record that is there and gets no answer is said to stand, whatever the cause.

Those who know of a cause name it (`standing.Reason`). This rule knows none. It sees that a partition's first record
without an answer has been the same one for `LIMIT_S`, and says where that record is. Slow is not standing: a record
that waits its turn while workers answer, that a worker computes within its lease, or that is left in Kafka while the
budget is full and other records move, is slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streamer.core.pipeline.flights import Flight
from streamer.core.pipeline.ledger import Partition
from streamer.core.pipeline.pipeline import Phase, Pipeline
from streamer.core.record import Segment, TopicPartition
from streamer.core.standing import Reason, Standing

LIMIT_S: Final = 45.0

Told = tuple[str, str]
"""Where a record is, and how to fix it."""


@dataclass(frozen=True, slots=True)
class ReadState:
    """What the source knows of a partition of ours: the offset that it reads next, the offset behind the last record
    that there is to read (-1 while no broker has said), and whether it is paused. `careful` says that nothing more is
    taken before all that was is settled, since processes died with records in their hands."""

    position: int
    end: int
    paused: bool = False
    careful: bool = False


@dataclass(slots=True)
class _Wait:
    """The first record without an answer, and since when it is that. `losses` is how many workers had been lost by
    then; `free_s` for how long the source could have read it; `seen` when the partition was last ours."""

    first: int
    since: float
    losses: int
    seen: float
    free_s: float = 0.0


class Unanswered:
    """Remembers since when each partition's first record has had no answer. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._waits: dict[TopicPartition, _Wait] = {}
        self._looked_at = float("-inf")
        self._moved_at = float("-inf")
        self._computed_at = float("-inf")
        self._computed = False

    def computed(self) -> None:
        """A worker answered."""
        self._computed = True

    def look(self, pipeline: Pipeline, ahead: Mapping[TopicPartition, ReadState], now: float) -> list[Standing]:
        """All partitions that stand now; to be asked every second or so."""
        past_s, self._looked_at = min(now - self._looked_at, LIMIT_S / 9), now
        if self._computed:
            self._computed, self._computed_at = False, now
        if pipeline.phase not in (Phase.RUNNING, Phase.ENDING):
            self._waits.clear()
            return []
        losses = sum(pipeline.fleet.restarts.values())
        # One that goes and comes back has stood all the time, unless somebody else moved it.
        self._waits = {key: wait for key, wait in self._waits.items() if now - wait.seen <= LIMIT_S}
        settling = pipeline.settling.under_way
        begun = {id(run.segment): run.first for run in settling.runs} if settling else {}
        owned = {key: one for key, one in pipeline.ledger.partitions.items() if not one.leaving}
        for key, partition in owned.items():
            first = _first(partition, ahead.get(key), begun)
            if first is None:
                self._waits.pop(key, None)
                continue
            wait = self._waits.get(key)
            if wait is None or first > wait.first:
                wait = self._waits[key] = _Wait(first, now, losses, now)
                self._moved_at = now
            elif not partition.segments and not pipeline.flow.holds:
                wait.free_s += past_s
            wait.first, wait.seen = wait.first if first < 0 else first, now
        found: list[Standing] = []
        late = [key for key in owned if key in self._waits and now - self._waits[key].since > LIMIT_S]
        # What is not taken may wait for what was.
        for key in sorted(late, key=lambda key: not owned[key].segments):
            wait = self._waits[key]
            if owned[key].segments:
                told = self._taken(pipeline, owned[key].segments[0][1], losses - wait.losses, now)
            else:
                told = self._unread(pipeline, ahead.get(key), wait, now, blocked=bool(found))
            if told is not None:
                where, fix = told
                what = f"its next record has had no answer for {now - wait.since:.0f} s: {where}"
                found.append(Standing(key, wait.first, Reason.UNKNOWN, what, fix))
        return found

    def _taken(self, pipeline: Pipeline, segment: Segment, lost: int, now: float) -> Told | None:
        """Where the next record of a segment is; None where it is slow and nothing worse. `lost` is how many workers
        were while it waited."""
        if pipeline.settling.holds(frozenset({(segment.topic, segment.partition)})):
            return "its answer is being settled", "look at the brokers, and at the settles in the log"
        if segment.planned == len(segment.records) or segment.outcomes[segment.planned] is not None:
            rollbacks = pipeline.settling.rollbacks
            tail = f", after {rollbacks} that were rolled back" if rollbacks else ""
            return f"its answer is waiting to be settled{tail}", "look at the brokers, and at the settles in the log"
        where = self._in_fleet(pipeline, segment, now, calm=not lost)
        if where is None:
            return None
        tail = f"; {lost} workers were lost in the meantime" if lost else ""
        return where + tail, "look at what the log says of the workers, and restart this process if it says nothing"

    def _unread(
        self, pipeline: Pipeline, ahead: ReadState | None, wait: _Wait, now: float, *, blocked: bool
    ) -> Told | None:
        """Of a record that was not taken yet. `blocked` says that one that was taken stands."""
        moving = now - self._moved_at <= LIMIT_S or self._computing(pipeline, now)
        if wait.free_s <= LIMIT_S and moving and not blocked:
            return None
        fix = "restart this process"
        if ahead is None or ahead.end < 0:
            return "no broker has said where the partition ends", "look at the partition's leader"
        if pipeline.flow.holds and pipeline.seals.records:
            where = "nothing is taken, since what waits for its schemas fills budget_mb"
            return where, "see to the schema registry, or raise budget_mb"
        if pipeline.flow.holds:  # the source then pauses all that it has
            return "nothing is taken, since what was taken before is not settled", fix
        if ahead.careful:
            where = "a process died with records in its hands, so none are taken until those taken before are settled"
            return where, "see to what these wait for, as the lines on other partitions say, e.g. the schema registry"
        if ahead.paused:
            return "the partition is paused", fix
        return "it was requested and did not arrive", f"look at the partition's leader, or {fix}"

    def _computing(self, pipeline: Pipeline, now: float) -> bool:
        """Whether workers answer, or have time to."""
        fleet = pipeline.fleet
        return now - self._computed_at <= LIMIT_S or any(
            worker.announced and fleet.leased(worker, now) for worker in fleet.workers
        )

    def _in_fleet(self, pipeline: Pipeline, segment: Segment, now: float, *, calm: bool) -> str | None:
        """Where a record is that has no outcome. `calm` says that no worker was lost while it waited: then one that
        waits behind others has its turn coming, and one that is computed has its lease."""
        fleet = pipeline.fleet
        flight = _flight_of(pipeline, segment)
        if flight is None:
            return "no worker computes it"
        moving = calm and self._computing(pipeline, now)
        for worker in fleet.workers:
            if flight.number not in worker.held:
                continue
            if calm and fleet.leased(worker, now):
                return None
            if flight.number in worker.announced:
                return f"worker {worker.number} computes it"
            return None if moving else f"it waits at worker {worker.number}"
        if flight in fleet.suspects:
            return "it waits to be computed alone, because a worker was lost with it"
        if flight not in fleet.waiting:
            return "it waits for the shared cache"
        if not fleet.ready_workers:
            return "it waits for a worker, and none is ready"
        return None if moving else "it waits for a worker"


def _first(partition: Partition, ahead: ReadState | None, begun: Mapping[int, int]) -> int | None:
    """The offset of a partition's first record without an answer, -1 for one that may be there; None for none. `begun`
    says where the plan under way begins in each segment, by the segment's id."""
    if not partition.segments:
        if ahead is None or ahead.end < 0:
            return -1
        return ahead.position if ahead.end > ahead.position else None
    segment = partition.segments[0][1]
    index = begun.get(id(segment), segment.planned)
    return segment.records[index].offset() if index < len(segment.records) else segment.records[-1].offset() + 1


def _flight_of(pipeline: Pipeline, segment: Segment) -> Flight | None:
    """The computation that the segment's next record waits for. Flights stand in the order of their beginning, so that
    one that has waited for long is found soon."""
    index = segment.planned
    for flight in pipeline.flights.by_key.values():
        if any(one is segment and place == index for one, place in flight.waiters):
            return flight
    return None
