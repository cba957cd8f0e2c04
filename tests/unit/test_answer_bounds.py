"""Answers take memory, too: they count against the byte budget, and end in the worker where no topic takes them."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.pipeline.flow import LARGE_COPIES, OPEN_LEAST
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import Dispatch, ForwardDone, Grant, LookAtOutput, OutputLimit, Settled
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure
from streamer.inference.channel import Done
from streamer.inference.parent.process import fact_of
from streamer.inference.worker.answer_limit import FRAME_BYTES, frames, within
from tests.records import FakeRecord
from tests.unit.pipeline_kit import Kit, segment, taken

BUDGET_BYTES = 1_000_000
_ANSWER = bytes(FRAME_BYTES + 1)
TOO_LARGE = DataFailure(Code.PUBLISH_TOO_LARGE, "The answer has 2000 bytes")


def answered(kit: Kit, size_bytes: int) -> None:
    """The worker answers all that it holds with outputs of this size."""
    work = kit.last_work().work
    kit.feed(ForwardDone(0, work.numbers, [Answer(b"x" * size_bytes) for _ in work.numbers]))


@pytest.mark.case(62)
def test_answers_in_flight_take_from_the_budget_until_they_are_settled() -> None:
    """Twice: the answer, and the client's copy of it. The source may take less by as much, and no more records than
    there is room for, should their answers be as large."""
    kit = Kit(Policy("p", budget_bytes=BUDGET_BYTES))
    kit.feed(taken(1, segment([f"t{n}" for n in range(10)])))
    answered(kit, 40_000)
    grant = kit.of(Grant)[-1]
    assert kit.pipeline.flow.in_flight_bytes == 10 * 100 + 2 * 10 * 40_000
    assert grant.size_bytes == BUDGET_BYTES - 2 * 10 * 40_000
    assert grant.records == 10 + OPEN_LEAST
    kit.feed(Settled(kit.settles()[-1].settle))
    assert kit.pipeline.flow.in_flight_bytes == 0
    grant = kit.of(Grant)[-1]
    assert grant.size_bytes - kit.pipeline.flow.taken_bytes == BUDGET_BYTES
    assert grant.records == 10 + OPEN_LEAST  # a budget of 1 MB has room for 12 of these


def test_small_answers_change_nothing() -> None:
    """What they take is in the measure of a record."""
    kit = Kit(Policy("p", budget_bytes=BUDGET_BYTES))
    kit.feed(taken(1, segment([f"t{n}" for n in range(10)])))
    answered(kit, 1000)
    assert kit.pipeline.flow.extra_bytes == 0


def test_headers_count_once_they_are_read() -> None:
    """They take more in memory than on the wire."""
    kit = Kit()
    part = segment(["a", "b"])
    part.records = [FakeRecord(b'{"text":"a"}', offset=n, headers=[("h", b"x" * 1000)] * 10) for n in range(2)]
    before = part.size_bytes
    kit.feed(taken(1, part))
    assert kit.pipeline.flow.extra_bytes == part.size_bytes - before > 2 * 10 * 1000


def test_what_was_dropped_meanwhile_is_not_counted() -> None:
    """Nothing would free it."""
    kit = Kit()
    part = segment(["a"])
    kit.feed(taken(1, part))
    part.dropped = True
    answered(kit, 50_000)
    assert kit.pipeline.flow.extra_bytes == 0


@pytest.mark.case(62)
def test_an_answer_over_the_limit_becomes_a_failure_in_the_worker() -> None:
    """The others are what they were."""
    done = Done([1, 2, 3], [b"a", b"b" * 11, None], [5, 6, 0], [1], {2: TOO_LARGE}, seconds=1.0)
    assert within(done, 11) is done
    limited = within(done, 10)
    assert limited.outputs == [b"a", None, None]
    assert limited.failures[1].code is Code.PUBLISH_TOO_LARGE
    assert "The answer has 11 bytes; the output topic takes 10" in limited.failures[1].message
    assert (limited.failures[2], limited.seconds) == (TOO_LARGE, 1.0)


@pytest.mark.case(60)
def test_the_limit_is_looked_at_again_before_a_worker_is_believed() -> None:
    """Where it has grown the text is computed once more, else it ends as a dead letter."""
    kit = Kit()
    kit.feed(OutputLimit(1000), taken(1, segment(["a", "large", "c"])))
    work = kit.last_work().work
    assert work.answer_bytes == 1000
    kit.feed(ForwardDone(0, work.numbers, [Answer(b"{}"), TOO_LARGE, Answer(b"{}")]))
    assert len(kit.of(LookAtOutput)) == 1
    kit.feed(OutputLimit(5000))
    again = kit.of(Dispatch)[-1].work
    assert (again.texts, again.answer_bytes) == (["large"], 5000)
    kit.feed(ForwardDone(0, again.numbers, [TOO_LARGE]))
    assert len(kit.of(LookAtOutput)) == 2
    kit.feed(OutputLimit(5000))
    kit.feed(Settled(kit.settles()[0].settle))
    outcomes = [run.segment.outcomes[index] for plan in kit.settles() for run in plan.runs for index in (1,)]
    assert outcomes == [TOO_LARGE] * len(outcomes)
    assert len(kit.of(Dispatch)) == 2


def test_large_texts_count_as_often_as_they_are_there() -> None:
    """As the client has them, decoded, and on their way to the worker."""
    kit = Kit()
    part = segment(["x" * 20_000] * 3)
    part.size_bytes = 60_000
    kit.feed(taken(1, part))
    assert kit.pipeline.flow.in_flight_bytes == LARGE_COPIES * 60_000
    answered(kit, 10)
    kit.feed(Settled(kit.settles()[-1].settle))
    assert kit.pipeline.flow.in_flight_bytes == 0


@pytest.mark.case(62)
@given(data=st.data())
def test_large_answers_come_in_several_frames_and_are_the_same(data: st.DataObject) -> None:
    """The driver holds a frame twice for a moment: no frame is larger than its bound, or than one answer. What was
    measured comes once."""
    sizes = data.draw(st.lists(st.sampled_from([0, 1, FRAME_BYTES // 3, FRAME_BYTES, FRAME_BYTES + 1]), max_size=12))
    outputs = [_ANSWER[:size] if size else None for size in sizes]
    places = range(len(sizes))
    done = Done(
        list(places),
        outputs,
        [10 + place for place in places],
        [place for place in places if place % 3 == 0],
        {place: DataFailure(Code.PUBLISH_TOO_LARGE, str(place)) for place in places if outputs[place] is None},
        *(100, 200, 1.5, 2),
        measures=data.draw(st.sampled_from([[], [b"%d" % place for place in places]])),
    )
    parts = [cast(ForwardDone, fact_of(0, frame)) for frame in frames(done)]
    whole = cast(ForwardDone, fact_of(0, done))
    assert [outcome for part in parts for outcome in part.outcomes] == whole.outcomes
    assert [number for part in parts for number in part.numbers] == whole.numbers
    for name in ("real_tokens", "computed_tokens", "seconds", "passes"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)
    for frame in frames(done):
        weights = [len(output or b"") for output in frame.outputs]
        assert len(weights) == 1 or sum(weights) <= FRAME_BYTES
