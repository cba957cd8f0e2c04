"""Who computes what, and who is to blame when a worker dies."""

from __future__ import annotations

import signal

import pytest

from streamer.core.pipeline.fleet import Fleet
from streamer.core.pipeline.flights import Flight
from streamer.core.pipeline.protocol import (
    Command,
    Dispatch,
    ForwardDone,
    ForwardStarted,
    KillWorker,
    StartWorker,
    Work,
    WorkerLost,
    WorkerReady,
)
from streamer.core.record import Answer, TextEvent
from streamer.errors import Code, DataFailure, FailureClass
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

    def die(self, announced: list[int], *, worker: int = 0, number: int = signal.SIGSEGV, hung: bool = False) -> list:
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

    @pytest.mark.case(29)
    def test_a_device_failure_makes_nobody_suspect(self) -> None:
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
