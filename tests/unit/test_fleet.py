"""Who computes what, and who is to blame when a worker dies."""

from __future__ import annotations

import signal

import pytest

from streamer.core.pipeline.fleet import Fleet
from streamer.core.pipeline.flights import Flight
from streamer.core.pipeline.protocol import (
    Command,
    Dispatch,
    EncodeStarted,
    ForwardDone,
    ForwardStarted,
    KillWorker,
    StartWorker,
    Work,
    WorkerLost,
    WorkerReady,
)
from streamer.core.record import Answer, TextEvent
from streamer.errors import Code, DataFailure, ExitCode, FailureClass
from tests.unit.pipeline_kit import CARD, segment

OK = Answer(b"{}")


def flight(number: int) -> Flight:
    text = f"t{number}"
    return Flight(number, text, TextEvent(text), segment([text]), 0)


class Yard:
    """A fleet with its workers ready."""

    def __init__(self, workers: int = 1, lease_s: float = 10.0) -> None:
        self.fleet = Fleet(workers, lease_s)
        self.now = 0.0
        self.fleet.supervise(self.now)
        for number in range(workers):
            self.fleet.ready(WorkerReady(number, CARD))

    def lend(self, *flights: Flight) -> list[Work]:
        self.fleet.enqueue(flights)
        return self.dispatch()

    def dispatch(self) -> list[Work]:
        commands, _ = self.fleet.dispatch(self.now, 0.0)
        return [command.work for command in commands if isinstance(command, Dispatch)]

    def die(
        self, announced: list[int], *, worker: int = 0, number: int = signal.SIGSEGV, hung: bool = False
    ) -> list[tuple[Flight, DataFailure]]:
        """The worker announces, dies, starts again and is ready; returns who is convicted."""
        if announced:
            self.fleet.started(ForwardStarted(worker, announced), self.now)
        convicted = self.fleet.lost(WorkerLost(worker, signal=number, hung=hung), self.now)
        self.now += 100
        self.fleet.supervise(self.now)
        self.fleet.ready(WorkerReady(worker, CARD))
        return convicted

    def succeed(self, numbers: list[int], worker: int = 0) -> None:
        self.fleet.started(ForwardStarted(worker, numbers), self.now)
        self.fleet.done(ForwardDone(worker, numbers, [OK] * len(numbers)), self.now)


def starts(commands: list[Command]) -> list[int]:
    return [command.worker for command in commands if isinstance(command, StartWorker)]


class TestConviction:
    def test_only_the_announced_batch_is_suspect(self) -> None:
        """All else goes back in line, and goes first."""
        yard = Yard()
        yard.lend(*(flight(n) for n in range(1, 5)))
        yard.die([2, 3])
        (work,) = yard.dispatch()
        assert work.numbers == [1, 4]
        assert not work.alone
        assert not yard.dispatch()
        yard.succeed([1, 4])
        (work,) = yard.dispatch()
        assert (work.numbers, work.alone) == ([2, 3], True)

    @pytest.mark.case(27)
    def test_a_killer_is_convicted_after_two_deaths_alone(self) -> None:
        """One record costs three worker deaths and convicts nobody else."""
        yard = Yard()
        yard.lend(flight(1), flight(2), flight(3))
        assert yard.die([1, 2, 3]) == []
        assert yard.dispatch()[0].alone
        yard.succeed([1])
        assert yard.die([2]) == []
        (work,) = yard.dispatch()
        assert work.numbers == [3, 2]
        yard.succeed([3])
        ((convict, failure),) = yard.die([2])
        assert convict.number == 2
        assert failure.code is Code.INFER_WORKER_KILLED
        assert "SIGSEGV" in failure.message
        assert not yard.fleet.suspects

    def test_sigkill_may_come_from_outside_and_needs_three(self) -> None:
        """An operator's kill -9 or the kernel's must not convict too soon."""
        yard = Yard()
        yard.lend(flight(1))
        assert yard.die([1], number=signal.SIGKILL) == []
        for _ in range(2):
            yard.dispatch()
            assert yard.die([1], number=signal.SIGKILL) == []
        yard.dispatch()
        assert len(yard.die([1], number=signal.SIGKILL)) == 1

    @pytest.mark.case(30)
    def test_a_hang_is_our_own_kill(self) -> None:
        """A lease passed alone counts as a death of its own, with its own code."""
        yard = Yard()
        yard.lend(flight(1))
        yard.die([1], number=signal.SIGKILL, hung=True)
        yard.dispatch()
        yard.die([1], number=signal.SIGKILL, hung=True)
        yard.dispatch()
        ((_, failure),) = yard.die([1], number=signal.SIGKILL, hung=True)
        assert failure.code is Code.INFER_WORKER_HUNG
        assert failure.attempts == 2

    @pytest.mark.case(68)
    def test_what_is_encoded_is_suspect_too(self) -> None:
        """Beside the forward batch, as long as it is encoded; a chunk that was encoded is acquitted."""
        yard = Yard()
        yard.lend(*(flight(n) for n in range(1, 8)))
        yard.fleet.encodes(EncodeStarted(0, [1, 2, 3]), yard.now)
        yard.fleet.encodes(EncodeStarted(0, [4, 5]), yard.now)
        yard.die([1, 2])
        assert [one.number for one in yard.fleet.suspects] == [1, 2, 4, 5]
        assert [one.number for one in yard.fleet.waiting] == [3, 6, 7]

    @pytest.mark.case(68)
    def test_a_hang_makes_only_that_suspect_whose_lease_it_was(self) -> None:
        """The forward batch beside it was well within its own."""
        yard = Yard(lease_s=10)
        yard.lend(flight(1), flight(2), flight(3))
        yard.fleet.encodes(EncodeStarted(0, [2, 3]), 0.0)
        yard.fleet.started(ForwardStarted(0, [1]), 5.0)
        assert yard.fleet.supervise(9.0) == []
        assert yard.fleet.supervise(10.5) == [KillWorker(0)]
        yard.fleet.lost(WorkerLost(0, signal=signal.SIGKILL, hung=True), 11.0)
        assert [one.number for one in yard.fleet.suspects] == [2, 3]

    def test_outcomes_of_encoding_leave_the_forward_batch_announced(self) -> None:
        """What could not be encoded is answered beside it."""
        yard = Yard()
        yard.lend(flight(1), flight(2), flight(3))
        yard.fleet.started(ForwardStarted(0, [1, 2]), 0.0)
        bad = DataFailure(Code.VALIDATE_PARAMS, "no")
        yard.fleet.done(ForwardDone(0, [3], [bad]), 1.0)
        yard.die([])
        assert [one.number for one in yard.fleet.suspects] == [1, 2]

    @pytest.mark.case(70)
    def test_a_worker_that_names_its_suspect_three_times_convicts_it(self) -> None:
        """Alone, on fresh workers whose probe passed; the verdict has the worker's words."""
        yard = Yard()
        yard.lend(flight(1), flight(2))
        word = WorkerLost(0, failure=FailureClass.DEVICE, message="out of memory for one text alone", suspects=[1])
        convicted: list[tuple[Flight, DataFailure]] = []
        for _ in range(4):
            assert not convicted
            convicted = yard.fleet.lost(word, yard.now)
            yard.fleet.supervise(yard.fleet.workers[0].restart_at)
            yard.fleet.ready(WorkerReady(0, CARD))
            if yard.fleet.waiting:
                yard.dispatch()
                yard.succeed([2])
            yard.dispatch()
        ((convict, failure),) = convicted
        assert (convict.number, failure.code, failure.attempts) == (1, Code.INFER_WORKER_KILLED, 3)
        assert "out of memory for one text alone" in failure.message
        assert yard.fleet.hopeless is None

    @pytest.mark.case(29)
    def test_a_device_failure_without_suspects_makes_nobody_suspect(self) -> None:
        """The worker's own word: the device is broken."""
        yard = Yard()
        yard.lend(flight(1), flight(2))
        yard.fleet.started(ForwardStarted(0, [1, 2]), 0.0)
        yard.fleet.lost(WorkerLost(0, failure=FailureClass.DEVICE), 0.0)
        assert not yard.fleet.suspects
        assert [one.number for one in yard.fleet.waiting] == [1, 2]

    def test_a_device_failure_while_alone_keeps_the_suspect_suspect(self) -> None:
        """A broken device neither convicts nor acquits."""
        yard = Yard()
        yard.lend(flight(1))
        yard.die([1])
        yard.dispatch()
        yard.fleet.started(ForwardStarted(0, [1]), yard.now)
        assert yard.fleet.lost(WorkerLost(0, failure=FailureClass.DEVICE), yard.now) == []
        assert [one.number for one in yard.fleet.suspects] == [1]
        assert yard.fleet.suspects[0].kills == 0

    def test_one_death_between_announcements_blames_nobody(self) -> None:
        """Two without a success between make everything held suspect: something in it kills before it is announced."""
        yard = Yard()
        yard.lend(flight(1), flight(2))
        yard.die([])
        assert not yard.fleet.suspects
        assert yard.dispatch()[0].numbers == [1, 2]
        yard.die([])
        assert [one.number for one in yard.fleet.suspects] == [1, 2]

    def test_other_workers_go_on_beside_the_suspects(self) -> None:
        """One worker takes the suspects, the others the rest."""
        yard = Yard(workers=2)
        yard.lend(flight(1))
        yard.die([1])
        works = yard.lend(flight(2))
        assert sorted((work.numbers, work.alone) for work in works) == [([1], True), ([2], False)]


class TestLeases:
    @pytest.mark.case(30)
    def test_a_worker_past_its_lease_is_killed_once(self) -> None:
        """The lease is per forward batch and starts anew at each announcement."""
        yard = Yard(lease_s=10)
        yard.lend(flight(1))
        yard.now = 9.0
        yard.fleet.started(ForwardStarted(0, [1]), yard.now)
        assert yard.fleet.supervise(18.0) == []
        assert yard.fleet.supervise(19.5) == [KillWorker(0)]
        assert yard.fleet.supervise(20.0) == []

    def test_an_idle_worker_has_no_lease(self) -> None:
        """No work, no deadline."""
        assert Yard(lease_s=1).fleet.supervise(1e6) == []


class TestRestart:
    @pytest.mark.case(29)
    def test_the_first_restart_is_at_once_and_then_pauses_grow(self) -> None:
        """While no forward batch succeeds, each start waits longer, up to 30 s."""
        fleet = Fleet(1, 10)
        now, pauses = 0.0, []
        assert starts(fleet.supervise(now)) == [0]
        for _ in range(9):
            fleet.lost(WorkerLost(0, failure=FailureClass.DEVICE), now)
            pauses.append(fleet.workers[0].restart_at - now)
            now = fleet.workers[0].restart_at
            assert starts(fleet.supervise(now)) == [0]
        assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
        assert pauses[-1] == 30.0

    def test_killers_in_a_row_do_not_lengthen_the_pause(self) -> None:
        """A worker that ran a suspect passed its probe before: its start was not in vain, and a burst of poison must
        not hold the others for minutes."""
        yard = Yard()
        yard.lend(*(flight(n) for n in range(1, 6)))
        yard.die([1, 2, 3, 4, 5])
        for _ in range(10):
            (work,) = yard.dispatch()
            yard.fleet.started(ForwardStarted(0, work.numbers[:1]), yard.now)
            yard.fleet.lost(WorkerLost(0, signal=signal.SIGSEGV), yard.now)
            assert yard.fleet.workers[0].restart_at == yard.now
            yard.fleet.supervise(yard.now)
            yard.fleet.ready(WorkerReady(0, CARD))
        assert not yard.fleet.suspects

    def test_a_success_forgives(self) -> None:
        """A worker that did something useful starts again at once."""
        yard = Yard()
        for _ in range(3):
            yard.die([])
        yard.lend(flight(1))
        yard.succeed([1])
        yard.fleet.lost(WorkerLost(0), yard.now)
        assert yard.fleet.workers[0].restart_at == yard.now

    @pytest.mark.case(75)
    def test_a_worker_that_does_not_finish_loading_is_killed_and_started_again(self) -> None:
        """Twice; then a run that has no other worker ends, and says why."""
        fleet = Fleet(1, 10, load_s=100)
        now = 0.0
        for _ in range(2):
            assert fleet.hopeless is None
            assert starts(fleet.supervise(now)) == [0]
            assert fleet.supervise(now + 99) == []
            (kill,) = fleet.supervise(now + 101)
            assert isinstance(kill, KillWorker)
            assert "load_s" in kill.why
            now += 102
            fleet.lost(WorkerLost(0, signal=signal.SIGKILL, hung=True), now)
            now = fleet.workers[0].restart_at
        code, words = fleet.hopeless or (None, "")
        assert code is ExitCode.DEPENDENCY
        assert "did not load within load_s (100 s)" in words

    @pytest.mark.case(74)
    def test_starts_that_fail_end_a_run_only_where_no_worker_is_left(self) -> None:
        """One of several is tried for ever, with a pause; the others go on."""
        fleet = Fleet(2, 10)
        fleet.supervise(0.0)
        fleet.ready(WorkerReady(0, CARD))
        full = WorkerLost(1, failure=FailureClass.CODE, message="no space left on the disk")
        for _ in range(20):
            fleet.lost(full, 0.0)
            fleet.supervise(1e6)
        assert fleet.hopeless is None
        assert fleet.stands(1e6) == ""
        for _ in range(11):  # the first had been ready
            fleet.lost(WorkerLost(0, failure=FailureClass.DEVICE, message="no such device"), 1e6)
            fleet.supervise(2e6)
        code, words = fleet.hopeless or (None, "")
        assert code is ExitCode.DEPENDENCY
        assert "no such device" in words

    @pytest.mark.case(76)
    def test_workers_that_get_ready_and_answer_nothing_end_the_run(self) -> None:
        """Whether they say so themselves or die between announcements; and whatever texts they suspect. One answer
        between shows that the model works."""
        for suspects, most in (([], 8), ([1], 32)):
            yard = Yard()
            yard.lend(flight(1), flight(2))
            losses = 0
            while yard.fleet.hopeless is None:
                yard.fleet.lost(WorkerLost(0, failure=FailureClass.DEVICE, message="NaN", suspects=suspects), yard.now)
                yard.fleet.supervise(yard.fleet.workers[0].restart_at)
                yard.fleet.ready(WorkerReady(0, CARD))
                if losses == 6:
                    yard.succeed([2])
                losses += 1
                work = yard.lend(flight(100 + losses))
                suspects = work[0].numbers[:1] if suspects and work else suspects
            assert 7 + most <= losses <= 8 + most
            assert yard.fleet.hopeless[0] is ExitCode.HALTED
            assert "NaN" in yard.fleet.hopeless[1]

    @pytest.mark.case(76)
    def test_that_no_worker_is_ready_is_said_with_the_reason(self) -> None:
        """After a while; from the start, and later."""
        fleet = Fleet(1, 10)
        fleet.supervise(0.0)
        assert fleet.stands(29.0) == ""
        assert "still being loaded" in fleet.stands(45.0)
        fleet.ready(WorkerReady(0, CARD))
        assert fleet.stands(100.0) == ""
        fleet.lost(WorkerLost(0, failure=FailureClass.DEVICE, message="no such device"), 200.0)
        fleet.supervise(200.0)
        assert fleet.stands(229.0) == ""
        assert fleet.stands(245.0) == "no worker has been ready for 45 s; the last one ended: no such device"


class TestLending:
    def test_work_is_shared_among_free_workers(self) -> None:
        """Two idle workers get half each."""
        yard = Yard(workers=2)
        works = yard.lend(*(flight(n) for n in range(100)))
        assert sorted(len(work.numbers) for work in works) == [50, 50]

    def test_pairs_and_params_travel_only_where_there_are_any(self) -> None:
        """Columns are left out when they are empty."""
        yard = Yard()
        plain = flight(1)
        paired = Flight(2, "k", TextEvent("t", text_pair="u", params={"n": 1}), segment(["t"]), 0)
        (work,) = yard.lend(plain)
        assert work.pairs is None
        assert work.params is None
        (work,) = yard.lend(paired)
        assert (work.pairs, work.params) == (["u"], [{"n": 1}])

    def test_a_late_outcome_of_a_lost_worker_is_ignored(self) -> None:
        """What was taken back and given to another is that one's."""
        yard = Yard()
        yard.lend(flight(1))
        yard.die([])
        assert yard.fleet.done(ForwardDone(0, [1], [OK]), yard.now) == ([], [])

    def test_outcomes_must_match_their_numbers(self) -> None:
        """A worker that answers for a part only is a bug, said loudly."""
        yard = Yard()
        yard.lend(flight(1), flight(2))
        with pytest.raises(ValueError, match="1 outcomes for 2"):
            yard.fleet.done(ForwardDone(0, [1, 2], [OK]), yard.now)


def test_data_failures_are_values() -> None:
    """A failure belongs to its record and has a code and a class name, no text."""
    failure = DataFailure(Code.INFER_NAN, "not finite")
    assert failure.attempts == 1
