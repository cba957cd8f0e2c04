"""The source against a scripted client: what is handed over, what is held, what it says, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from confluent_kafka import KafkaError

from streamer.core.intake import SourcePolicy
from streamer.core.pipeline.attempts import FEW, Note
from streamer.core.pipeline.protocol import Assigned, EndReached, Input, Lost, Revoking, SourceFailed, Taken
from streamer.core.standing import Reason
from streamer.errors import ExitCode
from streamer.kafka.source import source as source_module
from streamer.kafka.source.source import KafkaSource
from streamer.kafka.source.topic_ids import TopicIds
from tests.scripted_consumer import (
    Key,
    Partition,
    ScriptedConsumer,
    assigned,
    error,
    lost,
    raised,
    revoked,
)

A: Key = ("in", 0)
B: Key = ("in", 1)
PATIENCE_S = 20.0
PLENTY = 1 << 30

T = TypeVar("T")


class Reading:
    """A source over scripted clients, and what it posted. `clients` are made one after the other; the core `lets_go` of
    what is revoked at once, or when the test says so."""

    def __init__(
        self, *clients: ScriptedConsumer, ids: TopicIds | None = None, lets_go: bool = False, **policy: Any
    ) -> None:
        self.posted: list[Input] = []
        made: Iterator[Any] = iter(clients)
        self.source = KafkaSource(
            lambda: next(made),
            SourcePolicy(["in"], group="g", address="a:1", **{"hold_s": 0.0, "revoke_deadline_s": 5.0, **policy}),
            self._post,
            ids=ids,
        )
        self._lets_go = lets_go

    def _post(self, fact: Input) -> None:
        self.posted.append(fact)
        if self._lets_go and isinstance(fact, Revoking):
            self.source.release(fact.epoch)

    def of(self, kind: type[T]) -> list[T]:
        return [fact for fact in self.posted if isinstance(fact, kind)]

    def taken(self, key: Key = A) -> list[int]:
        """The offsets that were handed over of a partition, in this order."""
        return [
            record.offset()
            for fact in self.of(Taken)
            for segment in fact.batch.segments
            if (segment.topic, segment.partition) == key
            for record in segment.records
        ]

    def wait(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.posted
            time.sleep(0.005)

    def settle(self) -> None:
        """Let all that was handed over be durable."""
        for fact in self.of(Taken)[-1:]:
            self.source.done(fact.batch)


@contextmanager
def reading(*clients: ScriptedConsumer, granted: int = PLENTY, **options: Any) -> Iterator[Reading]:
    made = Reading(*clients, **options)
    made.source.grant(granted, PLENTY)
    made.source.start()
    try:
        yield made
    finally:
        made.source.close(PATIENCE_S)
    assert not made.source._thread.is_alive()


def client(*partitions: list[bytes], eof: bool = False) -> ScriptedConsumer:
    """A client of `in`, with these values in its partitions from 0 on; the group gives it all of them."""
    there = {("in", number): Partition(values) for number, values in enumerate(partitions)}
    made = ScriptedConsumer(there, eof=eof)
    made.play(assigned(*there))
    return made


def values(count: int) -> list[bytes]:
    return [b"x"] * count


def did(made: ScriptedConsumer, what: str) -> list[tuple[Any, ...]]:
    return [one[1:] for one in made.told if one[0] == what]


class TestHandingOver:
    def test_what_is_there_becomes_micro_batches_in_order(self) -> None:
        """From the committed offset on, under the assignment's epoch."""
        made = client(values(30), values(5))
        made.offsets[A] = (10, "")
        with reading(made, micro_batch_records=8) as run:
            run.wait(lambda: len(run.taken(A)) == 20 and len(run.taken(B)) == 5)
        assert run.taken(A) == list(range(10, 30))
        assert run.taken(B) == list(range(5))
        assert max(sum(len(one.records) for one in fact.batch.segments) for fact in run.of(Taken)) == 8
        assert run.of(Assigned) == [Assigned({A: 1, B: 1})]
        assert run.source.intake.records == 25

    def test_no_more_is_taken_than_is_granted(self) -> None:
        """What is paused at the end of a grant goes on with the next one, and nothing is skipped."""
        made = client(values(30))
        with reading(made, granted=10) as run:
            run.wait(lambda: did(made, "pause"))
            assert run.taken() == list(range(10))
            run.source.grant(25, PLENTY)
            run.wait(lambda: len(run.taken()) == 25)
        assert run.taken() == list(range(25))
        assert did(made, "resume")[-1] == (A,)

    def test_what_went_and_came_back_within_one_call_is_read_from_its_start(self) -> None:
        """Records that the client had fetched under the former assignment count for nothing."""
        made = client(values(6))
        with reading(made, lets_go=True, micro_batch_records=2) as run:
            run.wait(lambda: len(run.taken()) == 6)

            def away_and_back(client: ScriptedConsumer) -> Any:
                client.partitions[A].values.append(b"new")
                fetched = client.consume(1, 0.0)
                revoked(A)(client)
                client.offsets[A] = (4, "")
                assigned(A)(client)
                return fetched[0]

            made.play(away_and_back)
            run.wait(lambda: len(run.taken()) >= 9)
        assert run.taken() == [*range(6), 4, 5, 6]
        assert ("in", 0, 4) in did(made, "seek")
        epochs = [one.batch.segments[0].epoch for one in run.of(Taken)]
        assert epochs == sorted(epochs) and epochs[-1] > epochs[0]

    def test_a_rewind_reads_again_from_what_is_committed(self) -> None:
        made = client(values(6))
        with reading(made) as run:
            run.wait(lambda: len(run.taken()) == 6)
            made.offsets[A] = (3, "")
            run.source.rewind(frozenset({A}))
            run.wait(lambda: len(run.taken()) == 9)
        assert run.taken() == [*range(6), 3, 4, 5]

    def test_after_a_death_nothing_goes_out_before_its_note_is_committed(self) -> None:
        """The former owner ended without a word: a few records at a time, and the next once these are settled."""
        made = client(values(FEW + 10))
        made.offsets[A] = (0, Note("somebody", by=["another"]).write())
        with reading(made) as run:
            run.wait(lambda: run.taken())
            assert run.taken() == list(range(FEW))
            noted = Note.read(made.offsets[A][1])
            assert len(noted.by) == 2 and noted.by[0] == "another"
            run.settle()
            run.wait(lambda: len(run.taken()) == FEW + 10)
        assert run.taken() == list(range(FEW + 10))

    def test_records_that_go_out_one_at_a_time_are_read_once(self) -> None:
        """A seek for each would throw away what was fetched, and cost a tenth of a second."""
        made = client(values(20))
        made.offsets[A] = (0, Note(until=20, most=1).write())
        with reading(made) as run:
            for count in range(1, 21):
                run.wait(lambda count=count: len(run.taken()) == count)  # type: ignore[misc]
                run.settle()
        assert run.taken() == list(range(20))
        assert len(did(made, "seek")) <= 1, "what came before anybody knew that care is needed"

    def test_a_note_that_is_not_seen_to_be_committed_holds_its_records_back(self) -> None:
        """Refused, as amid a rebalance: they are sought back, and no other partition waits for them."""
        made = client(values(3), values(3))
        made.offsets[A] = (0, Note("somebody", by=["another"]).write())
        made.offsets[B] = (0, Note("somebody", ended=True).write())
        made.commits_fail.extend([KafkaError.REBALANCE_IN_PROGRESS] * 3)
        with reading(made) as run:
            run.wait(lambda: len(run.taken(B)) == 3)
            assert not run.taken(A)
            run.settle()
            run.wait(lambda: len(run.taken(A)) == 3)
            assert not made.commits_fail
        assert run.taken(A) == [0, 1, 2]
        assert ("in", 0, 0) in did(made, "seek")


class TestLettingGo:
    def test_calls_are_served_while_partitions_are_let_go(self) -> None:
        """The sink settles what it can meanwhile; then the note says that it was an orderly end."""
        made = client(values(4), values(4))
        with reading(made) as run:
            run.wait(lambda: len(run.taken(A)) + len(run.taken(B)) == 8)
            made.offsets[A] = (4, Note("").write())
            made.play(revoked(A))
            run.wait(lambda: run.of(Revoking))
            assert run.source.call(id).result(PATIENCE_S) == id(made)
            assert A in run.source.ownership.epochs, "it is ours until it is let go"
            run.source.release(run.of(Revoking)[0].epoch)
            run.wait(lambda: A not in run.source.ownership.epochs)
            assert B in run.source.ownership.epochs
        assert Note.read(made.offsets[A][1]).ended

    def test_a_core_that_does_not_let_go_is_not_waited_for_beyond_the_deadline(self) -> None:
        made = client(values(1))
        with reading(made, revoke_deadline_s=0.1) as run:
            run.wait(lambda: run.taken())
            made.play(revoked(A))
            run.wait(lambda: not run.source.ownership.epochs)
        assert made.offsets and not any(Note.read(note).ended for _, note in made.offsets.values())

    def test_what_is_lost_is_somebody_elses_already(self) -> None:
        """Nobody waits, and nothing is committed."""
        made = client(values(3))
        with reading(made) as run:
            run.wait(lambda: len(run.taken()) == 3)
            before = len(did(made, "commit"))
            made.play(lost(A))
            run.wait(lambda: run.of(Lost))
            assert not run.source.ownership.epochs
            assert len(did(made, "commit")) == before
        assert run.of(Lost) == [Lost(frozenset({A}))]
        assert not run.of(Revoking)

    def test_an_orderly_end_is_told(self) -> None:
        """Once the driver says that the process ends for reasons of its own."""
        made = client(values(3))
        with reading(made) as run:
            run.wait(lambda: len(run.taken()) == 3)
            run.source.mark_clean_end()
        assert Note.read(made.offsets[A][1]).ended
        assert made.closed.is_set()
        with pytest.raises(RuntimeError):
            run.source.call(lambda _: None).result(PATIENCE_S)


class TestEnds:
    def test_a_second_owner_of_the_slot_ends_it(self) -> None:
        made = client(values(1))
        with reading(made) as run:
            run.wait(lambda: run.taken())
            made.play(raised(KafkaError.FENCED_INSTANCE_ID))
            run.wait(lambda: run.of(SourceFailed))
        (failed,) = run.of(SourceFailed)
        assert failed.exit_code is ExitCode.FENCED

    def test_its_own_former_membership_does_not(self) -> None:
        """It lost everything a moment ago and was then fenced: a new client goes on from what is committed."""
        made, later = client(values(3)), client(values(5))
        later.offsets[A] = (2, "")
        with reading(made, later) as run:
            run.wait(lambda: len(run.taken()) == 3)
            made.play(lost(A), raised(KafkaError.FENCED_INSTANCE_ID))
            run.wait(lambda: len(run.taken()) == 6)
            assert made.closed.is_set()
        assert run.taken() == [0, 1, 2, 2, 3, 4]
        assert not run.of(SourceFailed)

    @pytest.mark.parametrize(
        ("code", "exit_code", "words"),
        [
            (KafkaError.TOPIC_AUTHORIZATION_FAILED, ExitCode.CONFIGURATION, "right to Read topic in"),
            (KafkaError.GROUP_AUTHORIZATION_FAILED, ExitCode.CONFIGURATION, "right to Read group g"),
            (KafkaError.INVALID_GROUP_ID, ExitCode.CONFIGURATION, "set `group` to another name"),
        ],
    )
    def test_what_does_not_pass_says_how_to_fix_it(self, code: int, exit_code: ExitCode, words: str) -> None:
        made = client(values(1))
        with reading(made) as run:
            run.wait(lambda: run.taken())
            made.play(error(code, A))
            run.wait(lambda: run.of(SourceFailed))
        (failed,) = run.of(SourceFailed)
        assert (failed.exit_code, words in failed.message) == (exit_code, True), failed

    def test_a_bug_is_told_as_one(self, caplog: pytest.LogCaptureFixture) -> None:
        made = client(values(1))
        with reading(made) as run:
            run.wait(lambda: run.taken())
            made.play(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
            run.wait(lambda: run.of(SourceFailed))
        assert run.of(SourceFailed)[0].exit_code is ExitCode.BUG
        assert "the source thread ended" in caplog.messages

    def test_the_end_is_reached_once_all_is_taken(self) -> None:
        """Of a run until the end, at the ends that were there when it began."""
        made = client(values(3), [], eof=True)
        with reading(made, until_end=True) as run:
            run.wait(lambda: run.of(EndReached))
        assert run.taken() == [0, 1, 2]


class TestErrors:
    def test_a_batch_that_cannot_be_read_holds_its_partition_alone(self) -> None:
        """Others go on; what is good before it is handed over, and the partition is named."""
        made = client(values(6), values(6))
        made.partitions[A].damaged = 4
        with reading(made) as run:
            run.wait(lambda: len(run.taken(B)) == 6 and run.source.standing())
            (one,) = run.source.standing()
            assert (one.partition, one.offset, one.reason) == (A, 4, Reason.UNREADABLE)
        assert run.taken(A) == [0, 1, 2, 3]
        assert ("in", 0, 4) in [one for call in did(made, "assign") for one in call]

    def test_records_that_retention_took_end_it(self) -> None:
        made = client(values(2))
        made.partitions[A].low = 5
        made.offsets[A] = (3, "")
        with reading(made) as run:
            run.wait(lambda: run.of(SourceFailed))
        assert run.of(SourceFailed)[0].exit_code is ExitCode.CONFIGURATION
        assert "in/0: retention deleted 2 records between 3" in run.of(SourceFailed)[0].message

    def test_or_are_counted_and_skipped(self) -> None:
        """Once each, also where the first batch that is left can't be read."""
        made = client(values(2))
        made.partitions[A].low, made.partitions[A].damaged = 5, 5
        made.offsets[A] = (3, "")
        with reading(made, skip_out_of_range=True) as run:
            run.wait(lambda: any(one.reason is Reason.UNREADABLE for one in run.source.standing()))
            assert run.source.intake.out_of_range_records == 2
            made.partitions[A].damaged = None
            run.source.call(lambda _: run.source._watch.unreadable.retry(float("inf")))
            run.wait(lambda: len(run.taken()) == 2)
        assert run.taken() == [5, 6]
        assert run.source.intake.out_of_range_records == 2

    def test_a_log_that_ends_before_the_offset_is_read_from_its_start(self) -> None:
        """Where the configuration asks for that, under a new epoch, and the new start is committed."""
        made = client(values(2))
        made.offsets[A] = (9, "")
        with reading(made, lets_go=True, skip_out_of_range=True) as run:
            run.wait(lambda: len(run.taken()) == 2)
        assert (run.taken(), run.source.resets) == ([0, 1], 1)
        assert ("in", 0, 0) in [one for call in did(made, "commit") for one in call]

    def test_what_passes_is_said_and_reading_goes_on(self, caplog: pytest.LogCaptureFixture) -> None:
        made = client(values(4))
        made.play(error(KafkaError._TRANSPORT, A), error(KafkaError._TRANSPORT, A))
        with reading(made, micro_batch_records=1) as run:
            run.wait(lambda: len(run.taken()) == 4)
        assert caplog.messages.count("the consumer continues after an error") == 1

    @pytest.mark.case(13)
    def test_a_partition_that_stands_still_is_sought_anew_until_the_client_takes_it(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client keeps it paused, whatever it was told; the first seek is refused, as amid a rebalance."""
        monkeypatch.setattr("streamer.core.read_progress.LOOK_AHEAD_S", 0.01)
        made = ScriptedConsumer({A: Partition(values(4))})

        def assigned_and_paused(client: ScriptedConsumer) -> None:
            client.say("on_assign", [A])
            client.paused.add(A)
            client.resumes_fail = 1

        made.play(assigned_and_paused)
        made.seeks_fail.append(KafkaError._STATE)
        with reading(made, stuck_s=0.05) as run:
            run.wait(lambda: len(run.taken()) == 4)
        assert run.taken() == [0, 1, 2, 3]
        assert "could not seek to an offset" in caplog.messages

    def test_a_topic_that_was_made_anew_is_read_from_its_start(self) -> None:
        """Records of before are thrown away, those that came in the same call included."""
        ids = TopicIds()
        made = client(values(5))
        with reading(made, lets_go=True, ids=ids) as run:
            run.wait(lambda: len(run.taken()) == 5)

            def made_anew(client: ScriptedConsumer) -> None:
                client.partitions[A].values = [b"new", b"new"]
                ids.changed.add("in")

            made.play(made_anew)
            run.wait(lambda: len(run.taken()) == 7)
        assert run.taken() == [0, 1, 2, 3, 4, 0, 1]


def test_a_thread_that_fails_waits_for_the_driver_and_then_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile the driver may say that the process ends in order; calls that come later are refused."""
    monkeypatch.setattr(source_module, "LEAVE_S", 0.5)
    made = client(values(1))
    with reading(made) as run:
        run.wait(lambda: run.taken())
        made.play(raised(KafkaError._FATAL))
        run.wait(lambda: run.of(SourceFailed))
        run.source.mark_clean_end()
        run.wait(made.closed.is_set)
        with pytest.raises(RuntimeError):
            run.source.call(lambda _: None).result(PATIENCE_S)
    assert Note.read(made.offsets[A][1]).ended
