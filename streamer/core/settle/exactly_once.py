"""One transaction a plan. What can go wrong, and what then:

- not owned any more: abort; the core filters and plans again;
- a rebalance moved the generation: abort; the core plans again from memory;
- a topic refused records: abort, and look at the topics; the core is told what they refuse for good, and plans without;
- the way is too slow for the plan: as if the end were unclear; the core makes smaller plans;
- the brokers were all lost: a new producer before the next call, since this one's may hang;
- fenced, fatal, abortable for another reason, and every commit whose end is unclear: a new producer under the same id,
  whose start ends the old one's transaction one way or the other; the committed offsets then say which, and the core
  cuts there.
  librdkafka has no KIP-890, so an unclear commit is never tried again on the same producer.
"""

from __future__ import annotations

from typing import Final

import msgspec

from streamer.core.pipeline.protocol import Settle, Settled, Unsettled
from streamer.core.record import TopicPartition
from streamer.core.results.plan_encoder import PIECE_RECORDS, TakenBackError
from streamer.core.settle.calls import (
    CALL_PATIENCE_S,
    REFUSALS,
    Act,
    Call,
    Client,
    ClosingError,
    CutOffError,
    Failed,
    FencedError,
    LookAtRefusals,
    Pause,
    SendOffsets,
    Steps,
    Written,
    again,
)
from streamer.errors import StreamerError

INIT_S: Final = 5.0
SEND_S: Final = 5.0
WITHHELD_AFTER_S = 60.0
PAUSE_S: Final = 0.2
FENCED_LIMIT: Final = 3
FENCED_WINDOW_S: Final = 60.0
REST_S: Final = 0.002
"""A coordinator answers a commit before it has written the transaction's markers, and until then it refuses what opens
the next one. librdkafka asks again only after 20 ms, whatever its properties say. Nobody notices behind a large plan,
which takes longer to encode."""


class ExactlyOnce:
    """One transaction a plan: opened after the model's work; the outcomes are written, the offsets added under the
    newest metadata of the group; then it is committed."""

    def __init__(self) -> None:
        self._fenced_at: list[float] = []

    def begin(self, patience_s: float) -> Steps[None]:
        """End what the slot's last owner left open. Raises Failed."""
        yield from again(Call.INIT, patience_s)

    def settle(self, plan: Settle) -> Steps[Settled | Unsettled]:
        """Raises Failed where a right is missing, FencedError, and StreamerError where offsets are withheld."""
        try:
            if (yield Call.CLIENT) is not Client.FINE:
                yield from self._renew()
        except ClosingError:
            return Unsettled(plan.settle, "rebuild")
        if refusals := (yield Call.PLACES):
            return Unsettled(plan.settle, "refused", refusals=refusals)
        began: float = yield Call.NOW
        try:
            yield Call.BEGIN
            yield Call.WRITE
            ownership = yield Call.OWNERSHIP
            if not ownership.holds(plan.epochs):
                yield from again(Call.ABORT)
                return Unsettled(plan.settle, "ownership")
            yield from again(SendOffsets(ownership.metadata))
            yield from again(Call.COMMIT)
            written: Written = yield Call.WRITTEN
            return Settled(plan.settle, size_bytes=written.size_bytes, rest_s=_rest_s(plan))
        except TakenBackError:
            return (yield from self._back(plan, began, "refused"))
        except CutOffError:
            return (yield from self._rebuild(plan, (yield Call.NOW) - began))
        except Failed as failed:
            return (yield from self._recover(plan, began, failed))

    def resume(self, plan: Settle, seconds: float) -> Steps[Unsettled]:
        """Go on where a call of this plan did not come back for so long. The producer is not used again."""
        return (yield from self._rebuild(plan, seconds))

    def _recover(self, plan: Settle, began: float, failed: Failed) -> Steps[Unsettled]:
        reports = [one for one in (yield Call.REPORTS) if one.act in REFUSALS or one.act is Act.DENIED]
        for one in (failed, *reports):
            if one.act is Act.DENIED:
                raise one
        if reports or failed.act in REFUSALS:
            return (yield from self._back(plan, began, "refused", failed))
        if failed.act is Act.STALE:
            return (yield from self._back(plan, began, "abort"))
        return (yield from self._unclear(plan, began, failed))

    def _back(self, plan: Settle, began: float, reason: str, refused: Failed | None = None) -> Steps[Unsettled]:
        """Abort; with a new producer where that fails. What was `refused` is said."""
        try:
            yield from again(Call.ABORT)
        except Failed as failed:
            fact = yield from self._unclear(plan, began, failed)
        else:
            fact = Unsettled(plan.settle, reason)
        if refused is not None:
            refusals = yield LookAtRefusals(refused)
            fact = msgspec.structs.replace(fact, refusals=refusals, error=refused.name)
        return fact

    def _unclear(self, plan: Settle, began: float, failed: Failed) -> Steps[Unsettled]:
        """A new producer ends the transaction. One that took longer than it may was ended by the broker, which looks
        like a second owner of the slot."""
        now = yield Call.NOW
        seconds = now - began
        if failed.act is Act.FENCED and seconds < CALL_PATIENCE_S:
            self._note_fenced(now)
        fact = yield from self._rebuild(plan, seconds)
        # Records can't be written to a topic that is gone.
        refusals = (yield LookAtRefusals(None)) if seconds > SEND_S else ()
        return msgspec.structs.replace(fact, error=failed.name, refusals=refusals)

    def _rebuild(self, plan: Settle, seconds: float) -> Steps[Unsettled]:
        """A new producer, `seconds` after the plan was begun, and what the committed offsets say of the plan's end."""
        written: Written = yield Call.WRITTEN
        committed: dict[TopicPartition, int] = {}
        try:
            yield from self._renew()
            committed = yield from self._committed()
        except ClosingError:
            pass
        return Unsettled(
            plan.settle,
            "rebuild",
            committed,
            seconds=seconds,
            size_bytes=written.size_bytes,
            delivered_bytes=written.delivered_bytes,
        )

    def _note_fenced(self, now: float) -> None:
        """A broker that timed our transaction out looks the same as a second owner of the slot; that one comes back."""
        self._fenced_at = [at for at in self._fenced_at if now - at < FENCED_WINDOW_S] + [now]
        if len(self._fenced_at) > FENCED_LIMIT:
            raise FencedError

    def _renew(self) -> Steps[None]:
        """A new producer under the same id; its start ends whatever the old one left open."""
        while True:
            yield Call.NEW_PRODUCER
            try:
                yield from again(Call.INIT, INIT_S)
                return
            except Failed as failed:
                if failed.act is Act.DENIED:
                    raise
                yield Pause(PAUSE_S, failed)

    def _committed(self) -> Steps[dict[TopicPartition, int]]:
        """Asked until the brokers answer, or it is known why they never will."""
        deadline = (yield Call.NOW) + WITHHELD_AFTER_S
        while True:
            try:
                committed: dict[TopicPartition, int] = yield Call.COMMITTED
                return committed
            except Failed as failed:
                if (yield Call.NOW) > deadline:
                    withheld: StreamerError | None = yield Call.WITHHELD
                    if withheld is not None:
                        raise withheld from None
                yield Pause(PAUSE_S, failed)


def _rest_s(plan: Settle) -> float:
    return REST_S if sum(run.last - run.first for run in plan.runs) < PIECE_RECORDS else 0.0
