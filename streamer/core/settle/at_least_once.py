"""Acknowledged outcomes first, then the offsets. Outcomes that were not all delivered are written again, all of them,
by a new producer: order would break were the rest delivered later.
"""

from __future__ import annotations

from streamer.core.pipeline.protocol import Settle, Settled, Unsettled
from streamer.core.pipeline.refusal import Refusal, Refused
from streamer.core.pipeline.tried_commits import TriedCommits
from streamer.core.record import TopicPartition
from streamer.core.results.plan_encoder import TakenBackError
from streamer.core.settle.calls import (
    REFUSALS,
    Act,
    Call,
    Client,
    ClosingError,
    CommitOffsets,
    Failed,
    LookAtRefusals,
    Steps,
    Written,
)


class AtLeastOnce:
    """The outcomes are written, all acknowledgements awaited, then the offsets committed."""

    def __init__(self) -> None:
        self._tried = TriedCommits()

    def begin(self, patience_s: float) -> Steps[None]:
        """Nothing is open that had to be ended."""
        yield from ()

    def settle(self, plan: Settle) -> Steps[Settled | Unsettled]:
        """Raises Failed where a right is missing."""
        if not (yield Call.OWNERSHIP).holds(plan.epochs):
            return Unsettled(plan.settle, "ownership")
        began: float = yield Call.NOW
        try:
            if (yield Call.CLIENT) is not Client.FINE:
                yield Call.NEW_PRODUCER
            if refusals := (yield Call.PLACES):
                return Unsettled(plan.settle, "refused", refusals=refusals)
            try:
                failures = yield from self._deliver()
            except TakenBackError:
                yield Call.NEW_PRODUCER
                return Unsettled(plan.settle, "refused")
            if failures:
                return (yield from self._undelivered(plan, began, failures))
        except ClosingError:
            return Unsettled(plan.settle, "delivery", restart=True)
        return (yield from self._commit(plan))

    def _deliver(self) -> Steps[list[Failed]]:
        """What failed of the plan's records."""
        failures: list[Failed] = []
        try:
            yield Call.WRITE
            yield Call.DELIVER
        except Failed as failed:
            failures.append(failed)
        failures += yield Call.REPORTS
        return failures

    def _undelivered(self, plan: Settle, began: float, failures: list[Failed]) -> Steps[Unsettled]:
        """What the brokers refuse for good is said; else everything is read again, too."""
        for one in failures:
            if one.act is Act.DENIED:
                raise one
        seconds = (yield Call.NOW) - began
        written: Written = yield Call.WRITTEN
        name = min(one.name for one in failures)
        yield Call.NEW_PRODUCER
        refusals: tuple[Refusal, ...] = yield LookAtRefusals(None)
        if refusals or any(one.act in REFUSALS for one in failures):
            return Unsettled(plan.settle, "refused", refusals=refusals, error=name)
        return Unsettled(
            plan.settle,
            "delivery",
            restart=True,
            seconds=seconds,
            size_bytes=written.size_bytes,
            delivered_bytes=written.delivered_bytes,
            error=name,
        )

    def _commit(self, plan: Settle) -> Steps[Settled | Unsettled]:
        offsets = self._tried.raise_to_tried(plan).offsets
        try:
            failed: dict[TopicPartition, Failed] = yield CommitOffsets(offsets)
        except ClosingError:
            return Unsettled(plan.settle, "commit")
        except Failed as why:
            if why.act is Act.DENIED:
                raise
            refused = offsets if why.act is Act.BAD_TOPIC else ()
            return Unsettled(
                plan.settle, "commit", refusals=tuple(_not_taken(key, why.name) for key in refused), error=why.name
            )
        if not failed:
            written: Written = yield Call.WRITTEN
            return Settled(plan.settle, size_bytes=written.size_bytes)
        for one in failed.values():
            if one.act is Act.DENIED:
                raise one
        return Unsettled(
            plan.settle,
            "commit",
            {key: offset for key, offset in offsets.items() if key not in failed},
            refusals=tuple(_not_taken(key, one.name) for key, one in failed.items() if one.act is Act.BAD_TOPIC),
            error=next(iter(failed.values())).name,
        )


def _not_taken(key: TopicPartition, code: str) -> Refusal:
    """An offset that the brokers take neither now nor later."""
    return Refusal(
        *key,
        Refused.COMMIT,
        code,
        f"the group's offset of it can't be committed ({code})",
        "make sure that the topic exists and that the brokers accept offsets, then restart the pipeline",
        None,
    )
