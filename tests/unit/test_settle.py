"""The steps of a settle, performed by hand: what is said of a plan, whatever its calls come to."""

from __future__ import annotations

from typing import Any

from streamer.core.ownership import Ownership
from streamer.core.pipeline.protocol import Settle, Unsettled
from streamer.core.results.plan_encoder import TakenBackError
from streamer.core.settle.at_least_once import AtLeastOnce
from streamer.core.settle.calls import Asked, Call, Client, ClosingError
from streamer.core.steps import perform

PLAN = Settle(7, [], {("in", 0): 5}, {("in", 0): 1})


def test_a_plan_that_is_taken_back_amid_the_close_is_unsettled() -> None:
    """No new producer is to be had then. At least once: what was written is written again by the next process."""
    answers = {Call.OWNERSHIP: Ownership(None, PLAN.epochs), Call.NOW: 0.0, Call.CLIENT: Client.FINE, Call.PLACES: ()}
    errors = {Call.WRITE: TakenBackError, Call.NEW_PRODUCER: ClosingError}

    def call(asked: Asked) -> Any:
        assert isinstance(asked, Call)
        if asked in errors:
            raise errors[asked]
        return answers[asked]

    fact = perform(AtLeastOnce().settle(PLAN), call, (TakenBackError, ClosingError))
    assert fact == Unsettled(PLAN.settle, "delivery", restart=True)
