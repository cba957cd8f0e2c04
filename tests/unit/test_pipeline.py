"""The pipeline's decisions: facts in, commands out, no threads and no clock."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streamer.core.events.codec import Codec
from streamer.core.pipeline.breaker import BreakerPolicy
from streamer.core.pipeline.flow import OPEN_FIRST, OPEN_PER_WORKER
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import (
    Assigned,
    CacheAnswered,
    Dispatch,
    EndReached,
    Finish,
    ForwardStarted,
    Grant,
    Join,
    KillWorker,
    LookUp,
    Lost,
    MicroBatchDone,
    Release,
    Revoking,
    Rewind,
    Settle,
    Settled,
    StartWorker,
    Stop,
    Store,
    Tick,
    Unsettled,
    WorkerHolds,
    WorkerLost,
    WorkerReady,
)
from streamer.core.pipeline.waiting import waiting
from streamer.core.record import Answer, Skipped
from streamer.core.standing import Reason
from streamer.errors import Code, DataFailure, ExitCode, FailureClass
from tests.unit.pipeline_kit import CARD, Kit, segment, taken


class TestMainPath:
    def test_joins_the_group_when_the_first_worker_is_ready(self) -> None:
        """The group is joined once, and only when there is somebody to work."""
        kit = Kit(Policy("p", workers=2))
        assert len(kit.of(Join)) == 1

    def test_a_record_is_computed_and_settled(self) -> None:
        """A micro-batch goes to a worker, its run is planned, and its end frees the budget."""
        kit = Kit()
        kit.feed(taken(1, segment(["a", "b"])))
        kit.answer(kit.last_work())
        (plan,) = kit.settles()
        assert plan.offsets == {("in", 0): 2}
        assert kit.pipeline.flow.in_flight_bytes == 200
        commands = kit.feed(Settled(plan.settle))
        assert kit.of(MicroBatchDone, commands)
        assert kit.pipeline.flow.in_flight_bytes == 0

    def test_identical_inputs_are_computed_once_across_micro_batches(self) -> None:
        """Single flight: a computation belongs to everybody who waits for it."""
        kit = Kit()
        kit.feed(taken(1, segment(["a", "a"])), taken(2, segment(["a"], partition=1)))
        assert [dispatch.work.texts for dispatch in kit.of(Dispatch)] == [["a"]]
        kit.answer(kit.last_work())
        assert sum(run.last - run.first for plan in kit.settles() for run in plan.runs) == 3

    def test_a_failure_goes_to_every_waiter_and_is_not_kept(self) -> None:
        """Each waiter has its own dead letter; the next such input is tried again."""
        kit = Kit(Policy("p", lru_bytes=1 << 20))
        poison = segment(["x", "x"])
        kit.feed(taken(1, poison))
        kit.answer(kit.last_work(), bad=["x"])
        assert all(isinstance(outcome, DataFailure) for outcome in poison.outcomes)
        assert poison.failures == 2
        kit.feed(taken(2, segment(["x"], first=2)))
        assert kit.last_work().work.texts == ["x"]

    def test_only_a_finished_prefix_is_planned(self) -> None:
        """A record behind an open one waits; other partitions do not."""
        kit = Kit()
        kit.feed(taken(1, segment(["slow", b"{"])))
        first = kit.last_work()
        kit.feed(taken(2, segment([b"{"], partition=1)))
        (plan,) = kit.settles()
        assert plan.offsets == {("in", 1): 1}
        kit.answer(first)
        kit.feed(Settled(plan.settle))
        assert kit.settles()[-1].offsets == {("in", 0): 2}

    def test_part_of_a_segment_is_planned(self) -> None:
        """A segment's finished first records do not wait for its last."""
        kit = Kit()
        kit.feed(taken(1, segment([b"not json", "a"])))
        assert kit.settles()[0].offsets == {("in", 0): 1}

    def test_undecodable_records_and_tombstones_need_no_worker(self) -> None:
        """What decoding ends is planned at once."""
        kit = Kit()
        dead = segment([b"{", None])
        kit.feed(taken(1, dead))
        assert isinstance(dead.outcomes[0], DataFailure)
        assert isinstance(dead.outcomes[1], Skipped)
        assert kit.settles()[0].offsets == {("in", 0): 2}
        assert not kit.of(Dispatch)

    def test_one_plan_is_under_way_and_what_finishes_meanwhile_gathers(self) -> None:
        """Load makes plans larger, not more."""
        kit = Kit()
        for number in range(4):
            kit.feed(taken(number, segment([b"{"], first=number)))
        (plan,) = kit.settles()
        assert plan.offsets[("in", 0)] == 1
        kit.feed(Settled(plan.settle))
        assert kit.settles()[-1].offsets == {("in", 0): 4}


class TestCache:
    def test_memory_answers_without_asking_anybody(self) -> None:
        """What was computed before is answered from memory, and marked as cached."""
        kit = Kit(Policy("p", lru_bytes=1 << 20))
        kit.feed(taken(1, segment(["a"])))
        kit.answer(kit.last_work())
        again = segment(["a"], first=1)
        before = len(kit.of(Dispatch))
        kit.feed(taken(2, again))
        assert isinstance(again.outcomes[0], Answer)
        assert again.outcomes[0].cached
        assert len(kit.of(Dispatch)) == before

    def test_the_shared_cache_is_asked_once_a_micro_batch_and_filled(self) -> None:
        """One look-up with all keys, misses to the worker, answers stored."""
        kit = Kit(Policy("p", shared_cache=True))
        both = segment(["a", "b"])
        kit.feed(taken(1, both))
        (look_up,) = kit.of(LookUp)
        assert len(look_up.keys) == 2
        assert not kit.of(Dispatch)
        kit.feed(CacheAnswered(look_up.lookup, [Answer(b"{}", cached=True), None]))
        assert kit.last_work().work.texts == ["b"]
        kit.answer(kit.last_work())
        (store,) = kit.of(Store)
        assert [key for key, _ in store.entries] == look_up.keys[1:]

    def test_a_model_that_must_not_be_shared_shares_nothing(self) -> None:
        """cacheable = False: no memory, no shared cache, no single flight."""
        card = CARD.__class__("m", "r1", "null", "float32", "torch", cacheable=False)
        kit = Kit(Policy("p", lru_bytes=1 << 20, shared_cache=True), card)
        kit.feed(taken(1, segment(["a", "a"])))
        assert kit.last_work().work.texts == ["a", "a"]
        assert not kit.of(LookUp)


class TestSettling:
    def test_an_aborted_plan_is_planned_again_after_a_pause(self) -> None:
        """Outcomes stay in memory and are produced again."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])))
        (plan,) = kit.settles()
        kit.feed(Unsettled(plan.settle, "abort"))
        assert len(kit.settles()) == 1
        kit.now += 1
        kit.feed(Tick())
        again = kit.settles()[-1]
        assert again.offsets == plan.offsets

    def test_the_next_plan_waits_where_the_last_one_asks_for_a_rest(self) -> None:
        """What finishes meanwhile is part of it."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])), taken(2, segment([b"{"], first=1)))
        kit.feed(Settled(kit.settles()[0].settle, rest_s=0.002), taken(3, segment([b"{"], first=2)))
        assert len(kit.settles()) == 1 and kit.pipeline.settling.rests_until
        kit.now += 0.002
        kit.feed(Tick())
        assert kit.settles()[-1].offsets == {("in", 0): 3} and not kit.pipeline.settling.rests_until

    def test_a_stop_does_not_end_before_a_rest(self) -> None:
        """What was finished by then is settled: a graceful stop repeats nothing."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])), taken(2, segment([b"{"], first=1)))
        kit.feed(Settled(kit.settles()[0].settle, rest_s=0.002), Stop(kit.now + 10))
        assert not kit.of(Finish)
        kit.now += 0.002
        kit.feed(Tick())
        kit.feed(Settled(kit.settles()[-1].settle, rest_s=0.002))
        kit.now += 0.002
        kit.feed(Tick())
        assert kit.settles()[-1].offsets == {("in", 0): 2} and kit.of(Finish)[-1].exit_code is ExitCode.DONE

    def test_what_finished_meanwhile_is_planned_with_what_came_back(self) -> None:
        """An aborted plan's runs stand before those that finished later."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])), taken(2, segment([b"{"], first=1)))
        (plan,) = kit.settles()
        kit.feed(Unsettled(plan.settle, "abort"))
        kit.now += 1
        kit.feed(Tick())
        again = kit.settles()[-1]
        assert again.offsets == {("in", 0): 2}
        assert [run.segment.records[run.first].offset() for run in again.runs] == [0, 1]

    @pytest.mark.case(5)
    def test_an_unclear_commit_is_cut_at_the_committed_offset(self) -> None:
        """What turned out durable is not produced a second time."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{", b"{", b"{"])))
        (plan,) = kit.settles()
        kit.feed(Unsettled(plan.settle, "rebuild", committed={("in", 0): 2}))
        kit.now += 1
        kit.feed(Tick())
        (run,) = kit.settles()[-1].runs
        assert (run.first, run.last) == (2, 3)

    @pytest.mark.case(5)
    def test_a_commit_that_landed_after_all_frees_everything(self) -> None:
        """Committed beyond the plan: nothing is left to do."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{", b"{"])))
        kit.feed(Unsettled(kit.settles()[0].settle, "rebuild", committed={("in", 0): 2}))
        kit.now += 1
        assert not kit.of(Settle, kit.feed(Tick()))
        assert kit.pipeline.flow.in_flight_bytes == 0

    def test_what_a_lost_answer_made_durable_is_told_as_settled(self) -> None:
        """Not as dropped: the source forgets what it counts against a record only when that is settled."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{", b"{"])))
        done = kit.feed(Unsettled(kit.settles()[0].settle, "rebuild", committed={("in", 0): 2}))
        (told,) = kit.of(MicroBatchDone, done)
        assert not told.batch.segments[0].dropped

    def test_a_delivery_error_reads_again_from_the_committed_offsets(self) -> None:
        """At least once: nothing later may be delivered before what failed."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])))
        kit.feed(Unsettled(kit.settles()[0].settle, "delivery", restart=True))
        assert kit.of(Rewind)[0].partitions == {("in", 0)}
        kit.feed(Assigned({("in", 0): 2}))
        kit.now += 1
        kit.feed(taken(2, segment([b"{"], epoch=2)))
        assert kit.settles()[-1].epochs == {("in", 0): 2}


class TestRebalance:
    def test_an_idle_partition_is_released_at_once(self) -> None:
        """Nothing in flight, nothing to wait for."""
        kit = Kit()
        kit.feed(Revoking(5, frozenset({("in", 0)})))
        assert kit.of(Release)[0].epoch == 5

    @pytest.mark.case(7)
    def test_finished_work_is_settled_once_more_before_release(self) -> None:
        """The new owner starts behind what we finished; what is unfinished is its own."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"], partition=1)), taken(2, segment([b"{"], partition=1, first=1)))
        kit.feed(Revoking(5, frozenset({("in", 1)})))
        assert not kit.of(Release)
        kit.feed(Settled(kit.settles()[0].settle))
        last = kit.settles()[-1]
        assert last.offsets == {("in", 1): 2}
        assert not kit.of(Release)
        kit.feed(Settled(last.settle))
        assert kit.of(Release)[0].epoch == 5

    def test_a_leaving_partition_gets_one_last_plan_only(self) -> None:
        """A slow tail can't keep the next owner waiting."""
        kit = Kit()
        mixed = segment([b"{", "a"])
        kit.feed(taken(1, mixed))
        (plan,) = kit.settles()
        kit.feed(Revoking(5, frozenset({("in", 0)})))
        kit.feed(Settled(plan.settle))
        assert kit.of(Release)
        kit.answer(kit.last_work())
        assert len(kit.settles()) == 1

    def test_a_late_release_leaves_alone_what_came_back_meanwhile(self) -> None:
        """The source waits for a release only so long; the partition may be ours anew when a slow plan ends."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])))
        (plan,) = kit.settles()
        kit.feed(Revoking(5, frozenset({("in", 0)})), Assigned({("in", 0): 6}))
        kit.feed(Unsettled(plan.settle, "ownership"))
        kit.now += 1
        kit.feed(taken(2, segment([b"{"], epoch=6)))
        assert kit.settles()[-1].epochs == {("in", 0): 6}
        assert not kit.pipeline.ledger.partitions[("in", 0)].leaving

    @pytest.mark.case(8)
    def test_lost_partitions_are_never_settled(self) -> None:
        """They are somebody else's already."""
        kit = Kit()
        kit.feed(taken(1, segment(["a"])))
        work = kit.last_work()
        kit.feed(Lost(frozenset({("in", 0)})))
        kit.answer(work)
        assert not kit.settles()
        assert kit.pipeline.flow.in_flight_bytes == 0

    def test_records_of_an_earlier_assignment_are_dropped(self) -> None:
        """A record counts only under the epoch under which its partition is ours now."""
        kit = Kit()
        kit.feed(Assigned({("in", 0): 2}))
        kit.feed(taken(1, segment([b"{"], epoch=1)))
        assert not kit.settles()

    def test_work_that_nobody_waits_for_is_not_lent(self) -> None:
        """Revoked records leave the line before they reach a worker."""
        kit = Kit()
        kit.feed(WorkerLost(0, failure=FailureClass.DEVICE))
        kit.feed(taken(1, segment(["a"])), Lost(frozenset({("in", 0)})))
        kit.now += 60
        kit.feed(Tick())
        kit.feed(WorkerReady(0, CARD))
        assert not kit.of(Dispatch)
        assert not kit.pipeline.flights.by_key


class TestFlow:
    def test_the_grant_is_a_total_that_grows_with_what_ends(self) -> None:
        """Totals can't race with records under way."""
        kit = Kit()
        (first,) = kit.of(Grant)
        kit.feed(taken(1, segment([b"{"] * 1000)))
        assert first.records == OPEN_FIRST
        assert kit.of(Grant)[-1].records == 1000 + OPEN_PER_WORKER

    def test_a_slow_record_counts_against_bytes_only(self) -> None:
        """What waits behind a slow record must not hold the other partitions."""
        kit = Kit(Policy("p", budget_bytes=1_000_000))
        (first,) = kit.of(Grant)
        kit.feed(taken(1, segment(["slow"] + [b"{"] * 1000)))
        grant = kit.of(Grant)[-1]
        assert grant.records == 1000 + OPEN_PER_WORKER
        assert grant.size_bytes == first.size_bytes


class TestEnds:
    def test_until_end_finishes_when_all_is_settled(self) -> None:
        """The end of the input is not the end of the work."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])), EndReached())
        assert not kit.of(Finish)
        kit.feed(Settled(kit.settles()[0].settle))
        assert kit.of(Finish)[0].exit_code is ExitCode.DONE

    @pytest.mark.case(37)
    def test_a_stop_drops_what_no_worker_holds_and_settles_the_rest(self) -> None:
        """Stopping takes as long as the work that is lent, no longer."""
        kit = Kit()
        kit.feed(taken(1, segment(["a"])))
        work = kit.last_work()
        kit.feed(Stop(kit.now + 10))
        assert kit.of(Grant)[-1] == Grant(0, 0)
        kit.answer(work)
        assert not kit.of(Finish)
        kit.feed(Settled(kit.settles()[-1].settle))
        assert kit.of(Finish)[0].exit_code is ExitCode.DONE

    def test_a_transaction_that_does_not_end_by_the_deadline_is_said(self) -> None:
        """Exit code 8: the drain deadline passed."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"])), Stop(kit.now + 1))
        kit.now += 2
        kit.feed(Tick())
        assert kit.of(Finish)[0].exit_code is ExitCode.DRAIN_DEADLINE

    @pytest.mark.case(20)
    def test_the_breaker_halts_before_the_bad_stretch_is_settled(self) -> None:
        """A bad deployment stops the pipeline; its failures are not planned."""
        kit = Kit()
        texts = [f"t{n}" for n in range(300)]
        kit.feed(taken(1, segment(texts)))
        kit.answer(kit.last_work(), bad=texts)
        assert not kit.settles()
        assert kit.of(Finish)[0].exit_code is ExitCode.HALTED

    def test_accepted_dead_letters_pass_the_breaker(self) -> None:
        """--accept-dead-letters N lets a known bad stretch through."""
        kit = Kit(Policy("p", breaker=BreakerPolicy(accept=300)))
        texts = [f"t{n}" for n in range(300)]
        kit.feed(taken(1, segment(texts)))
        kit.answer(kit.last_work(), bad=texts)
        assert len(kit.settles()) == 1

    def test_bad_input_does_not_trip_the_breaker(self) -> None:
        """Undecodable records speak of the producer, not of the model."""
        kit = Kit()
        kit.feed(taken(1, segment([b"{"] * 500)))
        assert len(kit.settles()) == 1

    def test_a_model_that_fails_for_everything_halts(self) -> None:
        """The worker's own word: CODE."""
        kit = Kit()
        kit.feed(WorkerLost(0, failure=FailureClass.CODE, exit_code=ExitCode.CONFIGURATION, message="no such model"))
        assert kit.of(Finish)[0] == Finish(ExitCode.CONFIGURATION, "no such model")

    @pytest.mark.case(74)
    def test_a_worker_that_can_not_load_what_another_serves_is_tried_again(self) -> None:
        """Its disk may be full for a while; and when it has loaded, it works."""
        kit = Kit(Policy("p", workers=2))
        kit.feed(WorkerLost(1))
        full = WorkerLost(1, failure=FailureClass.CODE, exit_code=ExitCode.CONFIGURATION, message="no space left")
        kit.feed(Tick(), full)
        kit.now += 5
        kit.feed(Tick())
        assert not kit.of(Finish)
        assert [one.worker for one in kit.of(StartWorker)].count(
            1
        ) == 3  # the start, the next, and the one after a pause

    @pytest.mark.case(76)
    def test_partitions_that_wait_for_a_worker_are_named(self) -> None:
        """With their first record that has no answer, the reason and what to do; those without records are not."""
        kit = Kit()
        kit.feed(taken(1, segment(["a", "b"], first=7)))
        assert list(waiting(kit.pipeline, ["in"], kit.now + 100)) == []
        kit.feed(WorkerLost(0, failure=FailureClass.DEVICE, message="no such device"))
        (one,) = waiting(kit.pipeline, ["in"], kit.now + 31)
        assert (one.partition, one.offset, one.reason) == (("in", 0), 7, Reason.MODEL)
        assert "no worker has been ready for 31 s; the last one ended: no such device" in str(one)

    @pytest.mark.case(76)
    def test_what_is_computed_for_long_is_named_and_what_is_tried_alone(self) -> None:
        """Before its lease is over, and until it is convicted."""
        kit = Kit(Policy("p", lease_s=60))
        kit.feed(taken(1, segment(["a", "b"], first=7)))
        numbers = kit.last_work().work.numbers
        kit.feed(ForwardStarted(0, numbers[1:]))
        assert list(waiting(kit.pipeline, ["in"], kit.now + 29)) == []
        (one,) = waiting(kit.pipeline, ["in"], kit.now + 31)
        assert (one.partition, one.offset, one.reason) == (("in", 0), 8, Reason.MODEL)
        assert "worker 0 has been computing it, with others, for 31 s" in one.what
        kit.now += 61
        kit.feed(Tick(), WorkerLost(0, signal=9, hung=True), WorkerReady(0, CARD), Tick())
        assert list(waiting(kit.pipeline, ["in"], kit.now + 20)) == []
        (one,) = waiting(kit.pipeline, ["in"], kit.now + 35)
        assert one.offset == 8
        assert "tried alone for 35 s" in one.what

    @pytest.mark.case(76)
    def test_what_waits_for_a_server_is_named_at_once(self) -> None:
        """With the worker's own words, until it takes them back; and what it announces keeps its lease."""
        kit = Kit(Policy("p", lease_s=60))
        kit.feed(taken(1, segment(["a", "b"], first=7)))
        numbers = kit.last_work().work.numbers
        for _ in range(5):
            kit.feed(ForwardStarted(0, numbers), WorkerHolds(0, "http://llm/v1: it refuses connections"))
            kit.now += 50
            kit.feed(Tick())
        (one,) = waiting(kit.pipeline, ["in"], kit.now - 45)
        assert (one.partition, one.offset, one.reason) == (("in", 0), 7, Reason.MODEL)
        assert one.what == "http://llm/v1: it refuses connections"
        kit.feed(WorkerHolds(0, ""))
        assert list(waiting(kit.pipeline, ["in"], kit.now - 45)) == []
        assert not kit.of(KillWorker)

    @pytest.mark.case(76)
    def test_before_the_group_is_joined_the_input_topics_wait(self) -> None:
        """Nobody knows of partitions yet."""
        pipeline = Pipeline(Policy("p"), Codec("p"))
        pipeline.handle(Tick(), 100.0)
        assert list(waiting(pipeline, ["in"], 120.0)) == []
        (one,) = waiting(pipeline, ["in"], 140.0)
        assert str(one).startswith("in is stuck (model): no worker has been ready for 40 s; the model is still being")

    @pytest.mark.case(34)
    def test_a_model_that_changed_on_disk_stops_the_pipeline(self) -> None:
        """One run serves one revision."""
        kit = Kit()
        kit.feed(WorkerLost(0), Tick(), WorkerReady(0, replace(CARD, revision="r2")))
        (finish,) = kit.of(Finish)
        assert finish.exit_code is ExitCode.DEPENDENCY and "changed" in finish.message

    @pytest.mark.case(34)
    def test_work_of_the_old_model_never_goes_to_the_new_one(self) -> None:
        """What a lost worker held is lent to nobody once the new one is another model: no result, nothing kept."""
        kit = Kit(Policy("p", lru_bytes=1 << 20, shared_cache=True))
        kit.feed(taken(1, segment(["a"])))
        kit.feed(CacheAnswered(kit.of(LookUp)[0].lookup, [None]))
        before = len(kit.of(Dispatch))
        kit.feed(WorkerLost(0), Tick(), WorkerReady(0, replace(CARD, revision="r2")), Tick())
        assert len(kit.of(Dispatch)) == before
        assert not kit.settles() and not kit.of(Store)

    @pytest.mark.parametrize(
        "other", [{"dtype": "bfloat16"}, {"backend": "openvino"}, {"device": "cuda:0"}, {"implementation": "of later"}]
    )
    def test_a_worker_that_computes_in_another_way_serves_and_is_not_kept(self, other: dict[str, str]) -> None:
        """The keys say how the first worker computes: another one's answers are published and stored nowhere."""
        kit = Kit(Policy("p", lru_bytes=1 << 20, shared_cache=True))
        kit.feed(WorkerLost(0), Tick(), WorkerReady(0, replace(CARD, **other)))
        for number, kept in ((1, False), (2, True)):
            kit.feed(taken(number, segment(["a"], first=number)))
            kit.feed(CacheAnswered(kit.of(LookUp)[-1].lookup, [None]))
            kit.answer(kit.last_work())
            assert len(kit.settles()) == number
            kit.feed(Settled(kit.settles()[-1].settle))
            assert bool(kit.of(Store)) is kept and bool(len(kit.pipeline.answering.lru or ())) is kept
            kit.feed(WorkerLost(0), Tick(), WorkerReady(0, CARD))

    def test_a_model_that_is_not_shared_is_kept_in_memory_alone(self) -> None:
        """No look-up and no store, but the second time its answer comes from memory."""
        kit = Kit(Policy("p", lru_bytes=1 << 20, shared_cache=True), replace(CARD, shared=False))
        kit.feed(taken(1, segment(["a"])))
        kit.answer(kit.last_work())
        assert not kit.of(LookUp) and not kit.of(Store)
        kit.feed(Settled(kit.settles()[-1].settle), taken(2, segment(["a"], first=1)))
        assert len(kit.of(Dispatch)) == 1 and len(kit.settles()) == 2


def test_code_is_a_data_failure_stage() -> None:
    """Stages group codes."""
    assert Code.INFER_NAN.stage == "infer"
