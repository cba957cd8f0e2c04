"""The steps of a transaction, performed by hand: whatever a call comes to, the core is told the truth of the plan."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.core.ownership import Ownership
from streamer.core.pipeline.protocol import Run, Settle, Settled, Unsettled
from streamer.core.pipeline.refusal import Refusal, Refused
from streamer.core.results.plan_encoder import PIECE_RECORDS, TakenBackError
from streamer.core.settle.at_least_once import AtLeastOnce
from streamer.core.settle.calls import (
    Act,
    Asked,
    Call,
    Client,
    ClosingError,
    CutOffError,
    Failed,
    FencedError,
    Pause,
    Written,
)
from streamer.core.settle.exactly_once import FENCED_LIMIT, REST_S, WITHHELD_AFTER_S, ExactlyOnce
from streamer.core.steps import perform
from streamer.errors import DependencyError
from tests.unit.pipeline_kit import batch, segment

PLAN = Settle(7, [], {("in", 0): 5}, {("in", 0): 1})
NO_PLACE = (Refusal("out", 0, Refused.TOPIC, "UNKNOWN_TOPIC_OR_PART", "it is gone", "make it", None),)
TOLD = (Failed, TakenBackError, CutOffError, ClosingError)


class Brokers:
    """Answers the calls: all go well but those that are set, each with what comes of it the first time, the second …"""

    def __init__(self, **ends: list[Any]) -> None:
        self.ends = ends
        self.calls: list[str] = []
        self.now = 0.0
        self.pauses = 0

    def __call__(self, asked: Asked) -> Any:
        name = asked.name if isinstance(asked, Call) else type(asked).__name__
        self.calls.append(name)
        if isinstance(asked, Pause):
            self.pauses += 1
            self.now += WITHHELD_AFTER_S
        if self.ends.get(name):
            end = self.ends[name].pop(0)
            if isinstance(end, Exception):
                raise end
            return end
        usual: dict[str, Any] = {
            "NOW": self.now,
            "CLIENT": Client.FINE,
            "PLACES": (),
            "OWNERSHIP": Ownership(None, PLAN.epochs),
            "REPORTS": [],
            "WRITTEN": Written(10, 8),
            "COMMITTED": {("in", 0): 5},
            "CommitOffsets": {},
            "LookAtRefusals": (),
        }
        return usual.get(name)

    def settle(self, steps: ExactlyOnce | AtLeastOnce) -> Settled | Unsettled:
        return perform(steps.settle(PLAN), self, TOLD)


def failed(act: Act) -> Failed:
    return Failed(act, act.name)


def test_all_goes_well() -> None:
    """Opened, written, the offsets added under the ownership that is looked at last, committed."""
    brokers = Brokers()
    assert brokers.settle(ExactlyOnce()) == Settled(7, size_bytes=10, rest_s=REST_S)
    steps = [name for name in brokers.calls if name != "NOW"]
    assert steps == ["CLIENT", "PLACES", "BEGIN", "WRITE", "OWNERSHIP", "SendOffsets", "COMMIT", "WRITTEN"]


def test_no_rest_is_asked_for_without_a_transaction_or_behind_a_large_plan() -> None:
    """There are no markers to wait for, or the next plan's encoding takes longer than they do."""
    assert perform(AtLeastOnce().settle(PLAN), Brokers(), TOLD) == Settled(7, size_bytes=10)
    many = segment(["a"] * PIECE_RECORDS)
    large = Settle(7, [Run(batch(1, many), many, 0, PIECE_RECORDS)], PLAN.offsets, PLAN.epochs)
    assert perform(ExactlyOnce().settle(large), Brokers(), TOLD) == Settled(7, size_bytes=10)


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({"PLACES": [NO_PLACE]}, Unsettled(7, "refused", refusals=NO_PLACE)),
        ({"OWNERSHIP": [Ownership(None, {("in", 0): 2})]}, Unsettled(7, "ownership")),
        ({"WRITE": [TakenBackError()]}, Unsettled(7, "refused")),
        ({"SendOffsets": [failed(Act.STALE)]}, Unsettled(7, "abort")),
        (
            {"COMMIT": [failed(Act.ABORT)], "REPORTS": [[failed(Act.TOO_LARGE)]], "LookAtRefusals": [NO_PLACE]},
            Unsettled(7, "refused", refusals=NO_PLACE, error="ABORT"),
        ),
        ({"CLIENT": [Client.CUT_OFF], "NEW_PRODUCER": [ClosingError()]}, Unsettled(7, "rebuild")),
    ],
    ids=["no place", "not ours", "taken back", "the group moved on", "refused by a report", "closing"],
)
def test_what_is_not_committed_is_said(ends: dict[str, list[Any]], told: Unsettled) -> None:
    """The producer is kept, and nothing is asked of the offsets: the transaction was aborted or never begun."""
    brokers = Brokers(**ends)
    assert brokers.settle(ExactlyOnce()) == told
    assert "COMMITTED" not in brokers.calls


UNCLEAR: dict[str, dict[str, list[Any]]] = {
    "the commit": {"COMMIT": [failed(Act.REBUILD)]},
    "the abort": {"SendOffsets": [failed(Act.STALE)], "ABORT": [failed(Act.REBUILD)]},
    "the brokers are lost": {"SendOffsets": [CutOffError()]},
    "the new producer's start fails first": {
        "COMMIT": [failed(Act.REBUILD)],
        "INIT": [failed(Act.REBUILD)],
        "NOW": [0.0] * 6,
    },
}


@pytest.mark.parametrize("ends", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_an_unclear_end_is_told_by_the_committed_offsets(ends: dict[str, list[Any]]) -> None:
    """Of a new producer's, whose start has ended the old one's transaction."""
    brokers = Brokers(**{name: [*each] for name, each in ends.items()})
    fact = brokers.settle(ExactlyOnce())
    assert isinstance(fact, Unsettled)
    assert (fact.reason, fact.committed, fact.delivered_bytes) == ("rebuild", {("in", 0): 5}, 8)
    assert brokers.calls.index("NEW_PRODUCER") < brokers.calls.index("INIT") < brokers.calls.index("COMMITTED")


def test_a_new_producer_that_closes_tells_of_no_offsets() -> None:
    """Nobody plans again: the next owner asks."""
    fact = Brokers(COMMIT=[failed(Act.REBUILD)], NEW_PRODUCER=[ClosingError()]).settle(ExactlyOnce())
    assert isinstance(fact, Unsettled) and (fact.reason, fact.committed) == ("rebuild", {})


@pytest.mark.parametrize(
    "ends",
    [
        {"COMMIT": [failed(Act.DENIED)]},
        {"COMMIT": [failed(Act.ABORT)], "REPORTS": [[failed(Act.DENIED)]]},
        {"COMMIT": [failed(Act.REBUILD)], "INIT": [failed(Act.DENIED)]},
    ],
    ids=["the commit", "a report", "the new producer"],
)
def test_a_missing_right_is_raised(ends: dict[str, list[Any]]) -> None:
    """People must act."""
    with pytest.raises(Failed, match="DENIED"):
        Brokers(**ends).settle(ExactlyOnce())


def test_a_second_owner_that_keeps_coming_back_ends_it() -> None:
    """Once may have been a transaction that the broker timed out, a few times in a minute not."""
    steps = ExactlyOnce()
    for _ in range(FENCED_LIMIT):
        assert isinstance(Brokers(COMMIT=[failed(Act.FENCED)]).settle(steps), Unsettled)
    with pytest.raises(FencedError):
        Brokers(COMMIT=[failed(Act.FENCED)]).settle(steps)


def test_offsets_that_are_withheld_are_asked_for_until_it_is_known_why() -> None:
    """Another transaction holds them back: its end is not ours to make."""
    brokers = Brokers(
        COMMIT=[failed(Act.REBUILD)],
        COMMITTED=[failed(Act.RETRY) for _ in range(5)],
        WITHHELD=[None, DependencyError("a transaction does not end")],
    )
    with pytest.raises(DependencyError, match="does not end"):
        brokers.settle(ExactlyOnce())
    assert brokers.calls.count("WITHHELD") == 2 and brokers.pauses == 3


def test_a_call_that_may_be_repeated_is_repeated_for_a_while() -> None:
    """With the same arguments, while the transaction lives."""
    assert isinstance(Brokers(COMMIT=[failed(Act.RETRY)] * 3).settle(ExactlyOnce()), Settled)
    brokers = Brokers(COMMIT=[failed(Act.RETRY)] * 2, NOW=[0.0, 0.0, 0.0, 99.0])
    fact = brokers.settle(ExactlyOnce())
    assert isinstance(fact, Unsettled) and fact.reason == "rebuild" and brokers.calls.count("COMMIT") == 1


# --- at least once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "reason", "restart"),
    [
        ({"OWNERSHIP": [Ownership(None, {})]}, "ownership", False),
        ({"PLACES": [NO_PLACE]}, "refused", False),
        ({"CLIENT": [Client.OTHER_SIZES], "NEW_PRODUCER": [ClosingError()]}, "delivery", True),
        ({"WRITE": [TakenBackError()]}, "refused", False),
        ({"DELIVER": [failed(Act.REBUILD)]}, "delivery", True),
        ({"REPORTS": [[failed(Act.TOO_LARGE)]]}, "refused", False),
        ({"CommitOffsets": [ClosingError()]}, "commit", False),
        ({"CommitOffsets": [failed(Act.RETRY)]}, "commit", False),
        ({"CommitOffsets": [{("in", 0): failed(Act.STALE)}]}, "commit", False),
    ],
    ids=str,
)
def test_at_least_once_says_what_came_of_a_plan(ends: dict[str, list[Any]], reason: str, restart: bool) -> None:
    """Offsets are committed only when all of its records were acknowledged."""
    brokers = Brokers(**{name: [*each] for name, each in ends.items()})
    fact = brokers.settle(AtLeastOnce())
    assert isinstance(fact, Unsettled)
    assert (fact.reason, fact.restart, fact.committed) == (reason, restart, {})
    assert ("CommitOffsets" in brokers.calls) == (reason == "commit")


@pytest.mark.parametrize("end", [failed(Act.BAD_TOPIC), {("in", 0): failed(Act.BAD_TOPIC)}], ids=["all", "one"])
def test_an_offset_that_is_never_taken_is_a_refusal(end: Any) -> None:
    """It names the partition."""
    fact = Brokers(CommitOffsets=[end]).settle(AtLeastOnce())
    assert isinstance(fact, Unsettled)
    assert [(one.topic, one.partition, one.kind) for one in fact.refusals] == [("in", 0, Refused.COMMIT)]


@pytest.mark.parametrize(
    "ends",
    [
        {"REPORTS": [[failed(Act.DENIED)]]},
        {"CommitOffsets": [failed(Act.DENIED)]},
        {"CommitOffsets": [{("in", 0): failed(Act.DENIED)}]},
    ],
    ids=str,
)
def test_at_least_once_raises_a_missing_right(ends: dict[str, list[Any]]) -> None:
    """People must act."""
    with pytest.raises(Failed, match="DENIED"):
        Brokers(**{name: [*each] for name, each in ends.items()}).settle(AtLeastOnce())
