"""Settling: one plan at a time, when the breaker allows it, and not too soon after one that was rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from streamer.core.pipeline.breaker import Breaker
from streamer.core.pipeline.ledger import Freed, Ledger
from streamer.core.pipeline.plan_size import Cut, Pace
from streamer.core.pipeline.protocol import Finish, Settle, Settled, Unsettled
from streamer.core.pipeline.refusal import Refused
from streamer.core.pipeline.refusals import Refusals
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing
from streamer.errors import DataFailure, ExitCode

ABORT_PAUSE_S = 0.05
ABORT_PAUSE_MAX_S = 5.0
SAID_AFTER_S: Final = 30.0
"""What may pass by itself, such as an outage or a slow way, is said to stand after this time."""
END_PATIENCE_S: Final = 30.0
ROLLBACK_PATIENCE_S: Final = 300.0
_LOOK_AT: Final = (
    "look at the brokers (all running, enough replicas in sync for min.insync.replicas, disks not full), and at the"
    " network: it may be slow, or limited by a quota"
)


class Settling:
    """The plan under way, if any, and how many before it were rolled back."""

    def __init__(self, ledger: Ledger, breaker: Breaker) -> None:
        self.under_way: Settle | None = None
        self.rollbacks = 0
        self.rests_until = 0.0
        """When the next plan may be made, where the last one asks for a rest; 0 where nothing rests."""
        self.pace = Pace()
        self._ledger = ledger
        self._breaker = breaker
        self._refusals = Refusals(ledger)
        self._after = 0.0
        self._began = 0.0
        self._failures = 0  # of the plan under way, when it was made
        self._rolling_back_since: float | None = None
        self._rollback_reason = ""

    def plan(self, number: int, now: float) -> Settle | Finish | None:
        """Plan all that is finished, unless the breaker objects, or an earlier plan showed that this is too much.

        One plan at a time: what finishes meanwhile makes the next one larger. A second plan made ahead would be smaller
        and cost a transaction of its own (it moved a tenth to a quarter fewer records), and would leave a gap when the
        first was rolled back.
        """
        if self.under_way is not None or now < max(self._after, self.rests_until):
            return None
        self.rests_until = 0.0
        plan = None
        if (cut := self._refusals.cut(now)) is not None:
            plan = self._ledger.plan(number, cut)
            if plan is None:
                self._refusals.forget()
        plan = plan or self._ledger.plan(number, Cut(size_bytes=self.pace.most_bytes))
        if plan is None:
            return None
        outcomes = sum(run.last - run.first for run in plan.runs)
        failures = _plan_failures(plan)
        if not self._breaker.allows(outcomes, failures):
            return Finish(ExitCode.HALTED, self._tripped(plan))
        self.under_way, self._began, self._failures = plan, now, failures
        return plan

    def _tripped(self, plan: Settle) -> str:
        policy = self._breaker.policy
        refused = next((failure for failure in _failures(plan) if failure.code.stage == "publish"), None)
        if refused is not None:
            return (
                f"more than {policy.share:.0%} of the last {policy.window} outcomes can't be published: this looks "
                f"like a topic with the wrong settings, not like bad data. {refused.message} Nothing of the "
                "stretch is settled. Pass it with --accept-dead-letters N where it is bad data"
            )
        return (
            f"more than {policy.share:.0%} of the last {policy.window} outcomes are "
            "failures of the model: this looks like a bad deployment, not bad data. Nothing of the stretch is "
            "settled. Fix the model, or let these records pass with --accept-dead-letters N"
        )

    def settled(self, fact: Settled, now: float) -> tuple[Settle, frozenset[TopicPartition]]:
        """The plan under way is durable; returns it, and the partitions that are to be read again: what the brokers
        refused of them is taken now."""
        plan = self._end_of(fact)
        self.rollbacks, self._rolling_back_since = 0, None
        self.rests_until = now + fact.rest_s if fact.rest_s else 0.0
        self.pace.settled(fact, now)
        late = _plan_failures(plan) - self._failures  # results that turned out larger than their topic takes
        if late > 0:
            self._breaker.failed_late(late)
        return plan, self._refusals.settled(plan)

    def unsettled(self, fact: Unsettled, now: float) -> Settle:
        """The plan under way was rolled back; returns it. The next one waits a while, longer each time."""
        self._breaker.taken_back()
        self.rollbacks += 1
        self._after = now + min(ABORT_PAUSE_S * 2 ** (self.rollbacks - 1), ABORT_PAUSE_MAX_S)
        if self._rolling_back_since is None:
            self._rolling_back_since = self._began
        self._rollback_reason = fact.error or fact.reason
        if not fact.refusals:
            self.pace.unsettled(fact, now)
        return self._end_of(fact)

    def refused(self, plan: Settle, fact: Unsettled, now: float) -> Freed:
        """The brokers refused what a plan wrote, and it was taken back; returns what is dropped by that."""
        freed, acted = self._refusals.refused(plan, fact.refusals, now)
        if acted:  # the next plan is another one: it need not wait
            self.rollbacks, self._rolling_back_since, self._after = 0, None, now
        return freed

    def standing(self, now: float) -> list[Standing]:
        """The partitions whose outcomes don't become durable, and why."""
        found = [
            Standing(
                key,
                block.offset,
                Reason.OUTPUT_MISSING if block.refusal.kind is Refused.MISSING else Reason.OUTPUT_REFUSED,
                block.refusal.what,
                block.refusal.fix,
            )
            for key, block in self._ledger.blocks.items()
        ]
        if self.under_way is not None and now - self._began > SAID_AFTER_S:
            what = f"Kafka has not taken the results of the last {now - self._began:.0f} s"
            found += self._slow(what, _LOOK_AT)
        elif self._rolling_back_since is not None and now - self._rolling_back_since > SAID_AFTER_S:
            what = f"results could not be written for {now - self._rolling_back_since:.0f} s ({self._rollback_reason})"
            found += self._slow(what, _LOOK_AT)
        elif (since := self.pace.slow_since) is not None and now - since > SAID_AFTER_S:
            most = (self.pace.most_bytes or 0) / 1_000_000
            what = (
                f"Kafka accepts results slowly: a transaction of more than {most:.3f} MB does not come through in time"
            )
            found += self._slow(
                what, "raise the client's quota (kafka-configs --entity-type clients), or use a faster network"
            )
        return found

    def _slow(self, what: str, fix: str) -> list[Standing]:
        return [
            Standing(key, first.offset(), Reason.OUTPUT_SLOW, what, fix)
            for key, partition in self._ledger.partitions.items()
            if partition.block is None and (first := partition.first) is not None
        ]

    def hopeless(self, now: float) -> Finish | None:
        """How `--until-end` ends where it can't end well: all that is left stands, and has for a while, or nothing was
        written for long."""
        if self._rolling_back_since is not None and now - self._rolling_back_since > ROLLBACK_PATIENCE_S:
            return Finish(ExitCode.DEPENDENCY, f"there are records left that can't be written: {self._said(now)}")
        left = [partition.block for partition in self._ledger.partitions.values() if partition.segments]
        if self.under_way is not None or not left or None in left:
            return None
        if any(now - block.since < END_PATIENCE_S for block in left if block is not None):
            return None
        return Finish(ExitCode.HALTED, f"there are records left that can't be settled: {self._said(now)}")

    def _said(self, now: float) -> str:
        return " / ".join(map(str, self.standing(now)))

    def holds(self, keys: frozenset[tuple[str, int]]) -> bool:
        """Whether the plan under way has offsets of one of these partitions."""
        return self.under_way is not None and not keys.isdisjoint(self.under_way.offsets)

    def _end_of(self, fact: Settled | Unsettled) -> Settle:
        plan, self.under_way = self.under_way, None
        if plan is None or plan.settle != fact.settle:
            raise AssertionError(f"the sink answers for plan {fact.settle}, under way was {plan and plan.settle}")
        return plan


def _failures(plan: Settle) -> Iterator[DataFailure]:
    """The plan's failures that speak of the model or its deployment, or of the output; decode and validate failures
    speak of the producer."""
    for run in plan.runs:
        for outcome in run.segment.outcomes[run.first : run.last] if run.segment.failures else ():
            if isinstance(outcome, DataFailure) and outcome.code.stage not in ("decode", "validate"):
                yield outcome


def _plan_failures(plan: Settle) -> int:
    return sum(1 for _ in _failures(plan))
