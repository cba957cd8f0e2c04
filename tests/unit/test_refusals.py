"""What the core makes of plans that the brokers refuse, and of a way that is too slow for them."""

from __future__ import annotations

import pytest

from streamer.core.pipeline.breaker import BreakerPolicy
from streamer.core.pipeline.ledger import PROBE_MAX_S
from streamer.core.pipeline.plan_size import AMPLE_BYTES, START_BYTES, Pace
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import (
    Assigned,
    EndReached,
    Finish,
    MicroBatchDone,
    Release,
    Revoking,
    Rewind,
    Settle,
    Settled,
    Tick,
    Unsettled,
)
from streamer.core.pipeline.refusal import Refusal, Refused
from streamer.core.pipeline.settling import END_PATIENCE_S, ROLLBACK_PATIENCE_S, SAID_AFTER_S
from streamer.core.record import Answer
from streamer.core.standing import Reason
from streamer.errors import Code, DataFailure, ExitCode
from tests.unit.pipeline_kit import Kit, segment, taken


def refusal(kind: Refused, partition: int = -1, *, letters: bool | None = False) -> Refusal:
    return Refusal("out", partition, kind, "SOME_CODE", "out refuses it (SOME_CODE)", "do this", letters)


def offsets(plan: Settle) -> list[tuple[int, int]]:
    """The plan's records, as partitions and offsets."""
    return [
        (run.segment.partition, run.segment.records[index].offset())
        for run in plan.runs
        for index in range(run.first, run.last)
    ]


class Broker:
    """Takes plans, but for records at these places, whose results it refuses, whatever else was sent with them."""

    def __init__(
        self, kit: Kit, bad: set[tuple[int, int]], kind: Refused = Refused.RECORD, *, named: bool = True
    ) -> None:
        self.kit, self.bad, self.kind, self.named = kit, bad, kind, named
        self.settled: list[tuple[int, int]] = []
        self.tries = 0

    def serve(self) -> None:
        """Until the pipeline plans nothing more."""
        while (plan := self.kit.pipeline.settling.under_way) is not None:
            self.tries += 1
            assert self.tries < 500
            at_fault = {
                run.segment.partition
                for run in plan.runs
                for index in range(run.first, run.last)
                if (run.segment.partition, run.segment.records[index].offset()) in self.bad
                and type(run.segment.outcomes[index]) is Answer
            }
            if at_fault:
                told = tuple(refusal(self.kind, each) for each in at_fault) if self.named else (refusal(self.kind),)
                self.kit.feed(Unsettled(plan.settle, "refused", refusals=told))
            else:
                self.settled += offsets(plan)
                self.kit.feed(Settled(plan.settle))


def filled(kit: Kit, records: int = 100) -> None:
    """Two partitions with answers, in the plan under way or behind it."""
    for partition in (0, 1):
        texts = [f"{partition} {number}" for number in range(records)]
        kit.feed(taken(partition + 1, segment(texts, partition=partition)))
        while kit.pipeline.fleet.held:
            kit.answer(kit.last_work())


@pytest.mark.case(57)
@pytest.mark.parametrize("named", [True, False])
def test_the_records_at_fault_are_found_by_halves(named: bool) -> None:
    """Each becomes a dead letter with the error's name and the fix; all others are settled, in order."""
    kit = Kit()
    filled(kit)
    bad = {(0, 17), (1, 0), (1, 99)}
    broker = Broker(kit, bad, named=named)
    broker.serve()
    assert sorted(broker.settled) == [(partition, offset) for partition in (0, 1) for offset in range(100)]
    for partition in (0, 1):
        mine = [offset for number, offset in broker.settled if number == partition]
        assert mine == sorted(mine)
    failures = {
        (run.segment.partition, run.segment.records[index].offset()): outcome
        for plan in kit.settles()
        for run in plan.runs
        for index, outcome in enumerate(run.segment.outcomes)
        if isinstance(outcome, DataFailure)
    }
    assert failures.keys() == bad
    assert {failure.code for failure in failures.values()} == {Code.PUBLISH_REFUSED}
    assert {failure.message for failure in failures.values()} == {"out refuses it (SOME_CODE); do this."}
    assert broker.tries < 60
    assert not kit.of(Rewind)


def test_an_input_that_is_refused_as_a_whole_is_not_drained() -> None:
    """The breaker ends it, with the brokers' words."""
    kit = Kit(Policy("p", breaker=BreakerPolicy(minimum=20)))
    filled(kit)
    broker = Broker(kit, {(partition, offset) for partition in (0, 1) for offset in range(100)})
    broker.serve()
    (finish,) = kit.of(Finish)
    assert finish.exit_code is ExitCode.HALTED
    assert "out refuses it (SOME_CODE); do this" in finish.message
    assert len(broker.settled) < 25


@pytest.mark.case(58)
def test_a_partition_without_a_place_stands_alone() -> None:
    """The other one goes on; what stands takes no budget, is said, tried again, and read again once it is taken."""
    kit = Kit()
    filled(kit)
    broker = Broker(kit, {(1, offset) for offset in range(100)}, Refused.MISSING)
    broker.serve()
    assert broker.settled == [(0, offset) for offset in range(100)]
    (standing,) = kit.pipeline.settling.standing(kit.now)
    assert (standing.partition, standing.offset, standing.reason) == (("in", 1), 0, Reason.OUTPUT_MISSING)
    assert kit.pipeline.flow.in_flight_bytes == 0
    kit.feed(taken(9, segment(["more"], partition=1, first=100), segment(["more"], first=100)))
    kit.answer(kit.last_work())
    broker.serve()
    assert broker.settled[-1] == (0, 100)
    assert kit.pipeline.flow.in_flight_bytes == 0
    tries = broker.tries
    for _ in range(600):  # a minute
        kit.now += 0.1
        kit.feed(Tick())
        broker.serve()
    assert 60 / PROBE_MAX_S <= broker.tries - tries <= 10
    assert not kit.of(Rewind)
    broker.bad = set()
    kit.now += PROBE_MAX_S
    kit.feed(Tick())
    broker.serve()
    assert broker.settled[-1] == (1, 0)
    assert [rewind.partitions for rewind in kit.of(Rewind)] == [{("in", 1)}]
    kit.feed(Assigned({("in", 1): 2}))
    assert not kit.pipeline.settling.standing(kit.now)
    assert {done.batch.number for done in kit.of(MicroBatchDone)} == {1, 2, 9}


def test_a_dead_letter_that_is_refused_blocks_its_partition() -> None:
    """There is no other place for it, and what stands before it is settled."""
    kit = Kit()
    kit.feed(taken(1, segment(["a", b"no json", "c"])))
    kit.answer(kit.last_work())
    plan = kit.settles()[-1]
    kit.feed(Unsettled(plan.settle, "refused", refusals=(refusal(Refused.RECORD, letters=True),)))
    plan = kit.settles()[-1]
    assert offsets(plan) == [(0, 0)]
    kit.feed(Settled(plan.settle))
    (standing,) = kit.pipeline.settling.standing(kit.now)
    assert (standing.offset, standing.reason) == (1, Reason.OUTPUT_REFUSED)


def test_a_blocked_partition_can_be_handed_over() -> None:
    """At once: nobody waits for what can't be settled."""
    kit = Kit()
    filled(kit)
    Broker(kit, {(1, 40)}, Refused.TOPIC).serve()
    kit.feed(Revoking(1, frozenset({("in", 1)})))
    assert [release.epoch for release in kit.of(Release)] == [1]
    assert not kit.pipeline.settling.standing(kit.now)


def test_until_end_ends_with_words_where_all_that_is_left_stands() -> None:
    """Not well, and not never."""
    kit = Kit()
    filled(kit)
    broker = Broker(kit, {(1, offset) for offset in range(100)}, Refused.MISSING)
    broker.serve()
    kit.feed(EndReached())
    assert not kit.of(Finish)
    for _ in range(int(END_PATIENCE_S) + 5):
        kit.now += 1
        kit.feed(Tick())
        broker.serve()
    (finish,) = kit.of(Finish)
    assert finish.exit_code is ExitCode.HALTED
    assert "in/1 is stuck at offset 0 (output_missing): out refuses it (SOME_CODE); do this" in finish.message


def test_until_end_ends_where_nothing_can_be_written() -> None:
    """After a while, with what the brokers said last; a restart may help."""
    kit = Kit()
    filled(kit, 3)
    kit.feed(EndReached())
    began = kit.now
    while not kit.of(Finish):
        plan = kit.pipeline.settling.under_way
        assert kit.now - began < ROLLBACK_PATIENCE_S + 60
        if plan is not None:
            kit.now += 10
            kit.feed(Unsettled(plan.settle, "rebuild", seconds=10, size_bytes=1000, error="_TIMED_OUT"))
        kit.now += 1
        kit.feed(Tick())
    (finish,) = kit.of(Finish)
    assert finish.exit_code is ExitCode.DEPENDENCY
    assert "results could not be written" in finish.message
    assert "(_TIMED_OUT)" in finish.message


def test_a_refusal_that_names_nothing_of_ours_is_waited_for() -> None:
    """No plan is made again at once where nothing follows of it."""
    kit = Kit()
    filled(kit, 3)
    plan = kit.settles()[-1]
    kit.feed(Unsettled(plan.settle, "refused", refusals=(refusal(Refused.TOPIC, letters=True),)))
    assert kit.pipeline.settling.under_way is None


@pytest.mark.case(59)
@pytest.mark.parametrize("bytes_per_s", [3_000, 100_000, 1_000_000_000])
def test_plans_suit_the_way(bytes_per_s: int) -> None:
    """Whatever it takes in 10 s: it never stands, and is used by more than half. What is slow is said."""
    kit = Kit()
    kit.pipeline.settling.pace.most_bytes = None  # it was fast, and lately is not
    filled(kit, 20_000 if bytes_per_s > 10_000 else 1_000)
    began, written = kit.now, 0
    while (plan := kit.pipeline.settling.under_way) is not None:
        size_bytes = 400 * len(offsets(plan))
        seconds = size_bytes / bytes_per_s
        if seconds <= 10:
            kit.now += seconds
            written += size_bytes
            kit.feed(Settled(plan.settle, seconds, size_bytes))
            continue
        kit.now += 10
        if kit.now - began > SAID_AFTER_S:
            assert {one.reason for one in kit.pipeline.settling.standing(kit.now)} == {Reason.OUTPUT_SLOW}
        kit.feed(Unsettled(plan.settle, "rebuild", seconds=10, size_bytes=size_bytes, delivered_bytes=0))
        kit.now += 1
        kit.feed(Tick())
    assert kit.pipeline.ledger.empty
    assert written / (kit.now - began + 1e-9) > bytes_per_s / 2


def test_a_way_that_is_fast_again_is_used_again() -> None:
    """After an outage plans grow within some dozens, and no signal stays."""
    pace = Pace()
    for _ in range(10):
        pace.unsettled(Unsettled(1, "rebuild", seconds=10, size_bytes=5_000_000), 1.0)
    assert pace.most_bytes is not None
    assert pace.most_bytes <= START_BYTES
    for _ in range(60):
        pace.settled(Settled(1, 0.02, min(pace.most_bytes or AMPLE_BYTES, AMPLE_BYTES)), 2.0)
    assert pace == Pace(None)
