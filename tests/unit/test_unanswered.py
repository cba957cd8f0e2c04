"""A record that gets no answer is said to stand, wherever it is; one that is slow is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import (
    Assigned,
    Dispatch,
    ForwardDone,
    ForwardStarted,
    Lost,
    Settle,
    Settled,
    Unsettled,
    WorkerLost,
    WorkerReady,
)
from streamer.core.record import Answer
from streamer.core.standing import Reason, Standing
from streamer.core.unanswered import LIMIT_S, ReadState, Unanswered
from tests.unit.pipeline_kit import CARD, Kit, segment, taken

FIRST, OTHER = ("in", 0), ("in", 1)
IDLE = {FIRST: ReadState(5, 5), OTHER: ReadState(5, 5)}
LATE_S = LIMIT_S + 2


class Watch:
    """The rule over a kit's pipeline, asked every second of a time that passes only here."""

    def __init__(self, lease_s: float = 1000.0, *, shared_cache: bool = False) -> None:
        self.kit = Kit(Policy("p", lease_s=lease_s, shared_cache=shared_cache))
        self.rule = Unanswered()
        self.ahead = dict(IDLE)

    def look(self) -> list[Standing]:
        return self.rule.look(self.kit.pipeline, self.ahead, self.kit.now)

    def wait(self, seconds: float, each: Callable[[], object] = lambda: None) -> list[Standing]:
        """All that stood at any of these seconds' ends."""
        found = []
        for _ in range(int(seconds)):
            self.kit.now += 1.0
            each()
            found += self.look()
        return found

    def take(self, *texts: str, partition: int = 0, first: int = 5) -> Dispatch:
        self.kit.feed(taken(1, segment(texts, partition=partition, first=first)))
        self.ahead["in", partition] = ReadState(first + len(texts), first + len(texts))
        return self.kit.last_work()

    def run(self, dispatch: Dispatch) -> None:
        self.kit.feed(ForwardStarted(dispatch.worker, dispatch.work.numbers))

    def answer(self, dispatch: Dispatch) -> Settle:
        self.kit.answer(dispatch)
        self.rule.computed()
        return self.kit.settles()[-1]


def only(found: list[Standing]) -> Standing:
    """The last one, when all are of one partition."""
    assert {one.partition for one in found} == {FIRST}
    assert {one.reason for one in found} == {Reason.UNKNOWN}
    return found[-1]


def test_nothing_to_read_is_no_standing() -> None:
    assert not Watch().wait(300)


@pytest.mark.case(92)
def test_a_record_that_is_asked_for_and_does_not_come() -> None:
    """In time for its 60 s, with the place where it is missed; and no longer than it lasts."""
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, 9)
    assert not watch.wait(LIMIT_S)
    one = only(watch.wait(5))
    assert (one.offset, one.partition) == (5, FIRST)
    assert "it was requested and did not arrive" in str(one)
    watch.ahead[FIRST] = ReadState(9, 9)
    assert not watch.wait(5)


def test_a_partition_that_waits_since_a_process_died_with_others() -> None:
    """A restart would change nothing: what was taken before has to be settled."""
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, 9, paused=True, careful=True)
    one = only(watch.wait(LATE_S))
    assert "none are taken until those taken before are settled" in one.what
    assert "restart" not in one.fix


def test_a_partition_that_waits_since_records_without_schemas_fill_the_budget() -> None:
    """A restart would change nothing here, either."""
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, 9)
    watch.kit.pipeline.flow.hold()
    watch.kit.pipeline.seals.records = 3
    one = only(watch.wait(LATE_S))
    assert "what waits for its schemas fills budget_mb" in one.what
    assert one.fix == "see to the schema registry, or raise budget_mb"


def test_a_partition_that_is_paused() -> None:
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, 9, paused=True)
    assert "the partition is paused" in str(only(watch.wait(LATE_S)))


def test_a_partition_of_which_no_broker_says_the_end() -> None:
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, -1)
    assert "no broker has said where the partition ends" in str(only(watch.wait(LATE_S)))


@pytest.mark.case(93)
def test_a_worker_that_is_past_its_lease() -> None:
    """The lease is time that the operator gave; after it the record stands. Within it, it does not, however long."""
    watch = Watch(lease_s=100.0)
    dispatch = watch.take("slow")
    watch.run(dispatch)
    assert not watch.wait(100)
    assert "worker 0 computes it" in str(only(watch.wait(5)))
    watch.kit.feed(Settled(watch.answer(dispatch).settle))
    assert not watch.wait(300)


def test_a_lease_that_is_renewed_is_slow_and_nothing_worse() -> None:
    """One long generation beside short ones: it is announced anew with each answer."""
    watch = Watch(lease_s=30.0)
    dispatch = watch.take("long", "short")
    assert not watch.wait(300, lambda: watch.run(dispatch))


def test_a_record_whose_worker_was_lost_has_no_lease_to_hide_behind() -> None:
    """A text that ends every worker before anything is answered goes round for ever; each round has its lease."""
    watch = Watch(lease_s=30.0)
    watch.take("poison")

    def round_and_round() -> None:
        if int(watch.kit.now) % 10 == 0:
            watch.kit.feed(WorkerLost(0), WorkerReady(0, CARD))

    assert "workers were lost in the meantime" in str(only(watch.wait(LATE_S, round_and_round)))


def test_one_that_waits_behind_others_waits_for_its_turn() -> None:
    """Whoever is behind thousands of others of a slow model has its answer when these have theirs."""
    watch = Watch()
    watch.take("first", "second")
    last = watch.kit.last_work()
    number = last.work.numbers[1]

    def answers() -> None:
        watch.kit.feed(ForwardDone(0, [number], [Answer(b"{}")]))
        watch.rule.computed()

    assert not watch.wait(300, answers)


def test_no_worker_is_ready() -> None:
    watch = Watch()
    watch.kit.feed(WorkerLost(0))
    watch.kit.feed(taken(1, segment(["a"], first=5)))
    assert "it waits for a worker, and none is ready" in str(only(watch.wait(LATE_S)))


def test_the_shared_cache_does_not_answer() -> None:
    watch = Watch(shared_cache=True)
    watch.kit.feed(taken(1, segment(["a"], first=5)))
    assert "it waits for the shared cache" in str(only(watch.wait(LATE_S)))


def test_a_computation_that_was_forgotten() -> None:
    """Nobody has it: a fault of ours, which is told all the same, also while others are answered."""
    watch = Watch()
    watch.take("a")
    watch.kit.pipeline.flights.by_key.clear()
    assert "no worker computes it" in str(only(watch.wait(LATE_S, watch.rule.computed)))


@pytest.mark.case(94)
def test_a_settle_that_does_not_end_and_settles_that_come_to_nothing() -> None:
    """Each plan of the same record is no progress, also when it grows."""
    watch = Watch()
    settle = watch.answer(watch.take("a"))
    assert "its answer is being settled" in str(only(watch.wait(LATE_S)))
    watch.kit.feed(Unsettled(settle.settle, "abort"))

    def in_vain() -> None:
        under_way = watch.kit.pipeline.settling.under_way
        watch.kit.feed(*([Unsettled(under_way.settle, "abort")] if under_way else []))

    one = only(watch.wait(10, in_vain))
    assert one.offset == 5
    assert "settled" in str(one)


def test_a_huge_backlog_that_moves() -> None:
    """While the budget is full, a partition waits in Kafka for as long as others move; once nothing moves it stands."""
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, 1_000_000)
    watch.kit.pipeline.flow.hold()
    offset = 0

    def other_moves() -> None:
        nonlocal offset
        offset += 1
        watch.ahead[OTHER] = ReadState(offset, 1_000_000)

    assert not watch.wait(300, other_moves)
    watch.ahead[OTHER] = ReadState(9, 9)
    assert "what was taken before is not settled" in str(only(watch.wait(LATE_S)))


def test_one_that_is_starved_while_there_is_room_stands_although_others_move() -> None:
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, 9)
    offset = 0

    def other_moves() -> None:
        nonlocal offset
        offset += 1
        watch.ahead[OTHER] = ReadState(offset, 1_000_000)

    assert "did not arrive" in str(only(watch.wait(LATE_S, other_moves)))


def test_a_rebalance_starts_nothing_anew_and_hides_nothing() -> None:
    """A partition that goes and comes back without an answer has stood all the time; one that another member moved has
    not."""
    watch = Watch()
    watch.ahead[FIRST] = ReadState(5, 9)
    watch.wait(30)
    watch.kit.feed(Lost(frozenset({FIRST})))
    assert not watch.wait(10)
    watch.kit.feed(Assigned({FIRST: 2}))
    assert watch.wait(10)
    watch.kit.feed(Lost(frozenset({FIRST})))
    assert not watch.wait(10)
    watch.kit.feed(Assigned({FIRST: 3}))
    watch.ahead[FIRST] = ReadState(6, 9)
    assert not watch.wait(30)


def test_what_waits_for_a_slow_model_is_slow_too() -> None:
    """The budget is full of records that are answered one after the other, none of them the first of its partition:
    nothing is settled for long, and what is left in Kafka waits as they do. When the workers answer no more, both
    stand."""
    watch = Watch()
    watch.take("first", "second")
    number = watch.kit.last_work().work.numbers[1]
    watch.ahead[OTHER] = ReadState(5, 1_000_000)
    watch.kit.pipeline.flow.hold()

    def answers() -> None:
        watch.kit.feed(ForwardDone(0, [number], [Answer(b"{}")]))
        watch.rule.computed()
        watch.kit.pipeline.flow.hold()

    assert not watch.wait(300, answers)
    watch.kit.pipeline.fleet.workers[0].deadline = watch.kit.now
    found = watch.wait(LATE_S)
    assert {one.partition for one in found} == {FIRST, OTHER}
    assert "it waits at worker 0" in str(found[-2])
    assert "what was taken before is not settled" in str(found[-1])
