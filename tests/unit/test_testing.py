"""The public fakes beyond what the contract and the simulation already show."""

from __future__ import annotations

import signal

import pytest

from streamer.core.pipeline.protocol import (
    Assigned,
    ForwardDone,
    ForwardStarted,
    Input,
    ModelCard,
    SourceFailed,
    Taken,
    Work,
    WorkerLost,
    WorkerReady,
)
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ExitCode, FailureClass
from streamer.testing import Hangs, Kills, ManualClock, MemoryLog, MemorySource, Raises, Reaction, ScriptedWorkers

CARD = ModelCard("m", "r", "null", "float32", "torch")
REACTIONS: dict[str, Reaction] = {"raises": Raises(), "kills": Kills(), "hangs": Hangs()}


class TestClock:
    def test_things_happen_in_the_order_of_time_then_of_planning(self) -> None:
        """Nothing happens before it is told to pass."""
        clock, happened = ManualClock(), list[str]()
        clock.later(2.0, lambda: happened.append("late"))
        clock.later(1.0, lambda: happened.append("first"))
        clock.later(1.0, lambda: happened.append("second"))
        assert not happened
        clock.advance(1.5)
        assert (happened, clock()) == (["first", "second"], 1.5)

    def test_waiting_in_vain_is_an_error(self) -> None:
        """A condition that nothing planned can bring about."""
        with pytest.raises(TimeoutError):
            ManualClock().advance_until(lambda: False)


class TestSource:
    def start(self, skip: bool) -> tuple[list[Input], MemorySource]:
        """A source that begins to read at a committed offset that retention has passed."""
        clock, facts = ManualClock(), list[Input]()
        log = MemoryLog(clock)
        log.create_topic("in", 1)
        for number in range(5):
            log.append("in", 0, b"%d" % number)
        group = log.group("g", ["in"])
        group.offsets["in", 0] = 1
        log.delete_before(("in", 0), 3)
        source = MemorySource(log, group, ["in"], facts.append, clock, skip_out_of_range=skip)
        source.grant(100, 1 << 20)
        source.start()
        clock.advance(1.0)
        return facts, source

    def test_deleted_records_end_it(self) -> None:
        """Unread records are not skipped silently."""
        facts, _ = self.start(skip=False)
        assert isinstance(facts[0], Assigned)
        assert [fact.exit_code for fact in facts if isinstance(fact, SourceFailed)] == [ExitCode.CONFIGURATION]

    def test_deleted_records_are_skipped_and_counted_where_wanted(self) -> None:
        """It goes on with the first that is left."""
        facts, source = self.start(skip=True)
        assert source.intake.out_of_range_records == 2
        (batch,) = [fact.batch for fact in facts if isinstance(fact, Taken)]
        assert [record.offset() for record in batch.segments[0].records] == [3, 4]


class TestWorkers:
    def work(self, *texts: str, alone: bool = False) -> tuple[list[Input], ScriptedWorkers, ManualClock]:
        """A ready worker that was given this work."""
        clock, facts = ManualClock(), list[Input]()
        workers = ScriptedWorkers(facts.append, clock, CARD, lambda text: REACTIONS.get(text) or Answer(text.encode()))
        workers.start(0)
        clock.advance(1.0)
        assert facts.pop() == WorkerReady(0, CARD)
        workers.send(0, Work(list(range(len(texts))), list(texts), alone=alone))
        clock.advance(1.0)
        return facts, workers, clock

    def test_a_batch_is_announced_then_answered(self) -> None:
        """Longest first, as real workers sort."""
        facts, _, _ = self.work("a", "bb")
        assert facts == [ForwardStarted(0, [1, 0]), ForwardDone(0, [1, 0], [Answer(b"bb"), Answer(b"a")])]

    def test_a_batch_that_raises_is_halved(self) -> None:
        """Only the text at fault fails."""
        facts, _, _ = self.work("raises", "a", "b", "c")
        outcomes = {
            number: outcome
            for fact in facts
            if isinstance(fact, ForwardDone)
            for number, outcome in zip(fact.numbers, fact.outcomes, strict=True)
        }
        failure = outcomes.pop(0)
        assert isinstance(failure, DataFailure)
        assert failure.code is Code.INFER_EXCEPTION
        assert outcomes == {1: Answer(b"a"), 2: Answer(b"b"), 3: Answer(b"c")}

    def test_a_text_may_kill_or_hang(self) -> None:
        """A death is told with its signal; a hang lasts until the worker is killed."""
        facts, _, _ = self.work("kills")
        assert facts[-1] == WorkerLost(0, signal=signal.SIGSEGV)
        facts, workers, clock = self.work("hangs")
        clock.advance(3600)
        assert facts == [ForwardStarted(0, [0])]
        workers.kill(0)
        assert facts[-1] == WorkerLost(0, signal=signal.SIGKILL, hung=True)

    def test_faults_from_outside(self) -> None:
        """A broken device is the worker's own word; a start may fail too."""
        facts, workers, clock = self.work("a")
        workers.failing_starts = 1
        workers.break_device(0)
        workers.start(0)
        clock.advance(1.0)
        assert [fact.failure for fact in facts if isinstance(fact, WorkerLost)] == [FailureClass.DEVICE] * 2
        assert workers.alive() == []
