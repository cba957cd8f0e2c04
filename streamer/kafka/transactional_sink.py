"""Exactly once against librdkafka: the calls of `core.settle.ExactlyOnce`.

`send_offsets_to_transaction` may hang for ever, whatever its timeout: librdkafka drops a broker that the metadata do
not list, as those of a broker that starts do not list itself at first, and goes on waiting for it where it was the
group's coordinator (#5511, #5456). With one broker that was killed and came back, 14 of 83 producers hung, and none of
41 that were recreated afterwards. What hangs all the same is left behind with its thread and its producer.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Any

from confluent_kafka import Producer, TopicPartition

from streamer.core.pipeline.protocol import Settle
from streamer.core.settle.calls import Act, Asked, Call, ClosingError, CutOffError, Failed, SendOffsets
from streamer.core.settle.exactly_once import SEND_S, ExactlyOnce
from streamer.kafka.errors import start_error
from streamer.kafka.sink import KafkaSink, ThreadReplacedError

ASK_S = 0.05
"""A broker that is still ending what the slot's last owner left open says so at once, and librdkafka asks again only
after half a second; a new call asks at once, and only waits where a request is under way (librdkafka 2.16, tried with a
broker frozen at 60 moments of a call)."""
HUNG_S = 2 * SEND_S

log = logging.getLogger(__name__)


class TransactionalSink(KafkaSink):
    """Exactly once: one transaction a plan."""

    def __init__(self, *args: Any, transactional_id: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._protocol = self._steps = ExactlyOnce()
        self._resource = f"transactional-id {transactional_id}"
        self._handover = threading.Lock()
        self._sending: tuple[Settle, float] | None = None  # the plan whose offsets are being sent, and since when

    def replace_if_hung(self, now: float) -> None:
        """Replace the thread where it stands in a call of the client that does not come back: another one makes a
        new producer, whose init_transactions ends what the old one left open. The old one's memory is lost."""
        with self._handover:
            if self._sending is None or now - self._sending[1] < HUNG_S:
                return
            plan, self._sending = self._sending[0], None
            self._thread = threading.Thread(
                target=self._run, args=(partial(self._resume, plan),), name="sink", daemon=True
            )
        log.warning("the producer hangs: replacing it")
        self._thread.start()

    def _resume(self, plan: Settle) -> None:
        """Go on where another thread was left in a call."""
        self._producer = None
        self._work(plan, self._steps.resume(plan, HUNG_S))

    def _begin(self, patience_s: float) -> None:
        try:
            self._perform(self._steps.begin(patience_s))
        except Failed as failed:
            raise start_error(failed.error, address=self._address, operation="Write", resource=self._resource) from None

    @property
    def _made(self) -> Producer:
        assert self._producer is not None
        return self._producer

    def _call(self, asked: Asked, plan: Settle | None) -> Any:
        match asked:
            case Call.INIT:
                self._made.init_transactions(ASK_S)
            case Call.BEGIN:
                self._made.begin_transaction()
            case Call.COMMIT:
                self._made.commit_transaction()
            case Call.ABORT:
                self._made.abort_transaction()
            case SendOffsets() if plan is not None:
                self._send_offsets(plan, asked.metadata)
            case Call.COMMITTED if plan is not None:
                return self._committed(plan)
            case Call.WITHHELD if plan is not None:
                return self._offsets.withheld(_listed(plan))
            case _:
                return super()._call(asked, plan)
        return None

    def _send_offsets(self, plan: Settle, metadata: Any) -> None:
        """The call that may hang. Raises ThreadReplacedError where it came back after this thread was replaced."""
        if self._producers.cut_off:
            raise CutOffError
        self._sending = plan, time.monotonic()
        try:
            self._made.send_offsets_to_transaction(self._with_notes(plan.offsets), metadata, SEND_S)
        finally:
            with self._handover:
                if threading.current_thread() is not self._thread:
                    raise ThreadReplacedError
                self._sending = None

    def _committed(self, plan: Settle) -> dict[tuple[str, int], int]:
        """What the group has committed of the plan's partitions."""
        if self._closing:
            raise ClosingError
        self.busy_since = time.monotonic()
        partitions = _listed(plan)
        try:
            found = self._offsets.call(lambda consumer: consumer.committed(partitions, timeout=5.0)).result(30.0)
        except TimeoutError:
            raise Failed(Act.RETRY, "_TIMED_OUT") from None
        except RuntimeError:  # the source is closed
            raise ClosingError from None
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}


def _listed(plan: Settle) -> list[TopicPartition]:
    return [TopicPartition(*key) for key in plan.offsets]
