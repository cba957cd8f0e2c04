"""Settling: one plan at a time, when the breaker allows it, and not too soon after one that came to nothing."""

from __future__ import annotations

from streamer.core.pipeline.breaker import Breaker
from streamer.core.pipeline.ledger import Ledger
from streamer.core.pipeline.protocol import Finish, Settle, Settled, Unsettled
from streamer.core.record import Segment
from streamer.errors import DataFailure, ExitCode

ABORT_PAUSE_S = 0.05
ABORT_PAUSE_MAX_S = 5.0


class Settling:
    """The plan under way, if any, and how many before it came to nothing."""

    def __init__(self, ledger: Ledger, breaker: Breaker) -> None:
        self.under_way: Settle | None = None
        self.in_vain = 0
        self._ledger = ledger
        self._breaker = breaker
        self._after = 0.0

    def plan(self, number: int, now: float) -> Settle | Finish | None:
        """Plan all that is finished, unless the breaker objects.

        One plan at a time: what finishes meanwhile makes the next one larger. A second plan made ahead would be smaller
        and cost a transaction of its own (it moved a tenth to a quarter fewer records), and would leave a gap when the
        first came to nothing.
        """
        if self.under_way is not None or now < self._after:
            return None
        plan = self._ledger.plan(number)
        if plan is None:
            return None
        outcomes = sum(run.last - run.first for run in plan.runs)
        failures = sum(_model_failures(run.segment, run.first, run.last) for run in plan.runs if run.segment.failures)
        if not self._breaker.allows(outcomes, failures):
            policy = self._breaker.policy
            return Finish(
                ExitCode.HALTED,
                f"more than {policy.share:.0%} of the last {policy.window} outcomes are "
                "failures of the model: this looks like a bad deployment, not bad data. Nothing of the stretch is "
                "settled. Mend the model, or pass the stretch with --accept-dead-letters N",
            )
        self.under_way = plan
        return plan

    def settled(self, fact: Settled) -> Settle:
        """The plan under way is durable; returns it."""
        self.in_vain = 0
        return self._end_of(fact)

    def unsettled(self, fact: Unsettled, now: float) -> Settle:
        """The plan under way came to nothing; returns it. The next one waits a while, longer each time."""
        self.in_vain += 1
        self._after = now + min(ABORT_PAUSE_S * 2 ** (self.in_vain - 1), ABORT_PAUSE_MAX_S)
        return self._end_of(fact)

    def holds(self, keys: frozenset[tuple[str, int]]) -> bool:
        """Whether the plan under way has offsets of one of these partitions."""
        return self.under_way is not None and not keys.isdisjoint(self.under_way.offsets)

    def _end_of(self, fact: Settled | Unsettled) -> Settle:
        plan, self.under_way = self.under_way, None
        if plan is None or plan.settle != fact.settle:
            raise AssertionError(f"the sink answers for plan {fact.settle}, under way was {plan and plan.settle}")
        return plan


def _model_failures(segment: Segment, first: int, last: int) -> int:
    """Failures that speak of the model or its deployment; decode and validate failures speak of the producer."""
    return sum(
        isinstance(outcome, DataFailure) and outcome.code.stage not in ("decode", "validate")
        for outcome in segment.outcomes[first:last]
    )
