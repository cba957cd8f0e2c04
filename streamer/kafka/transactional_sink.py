"""Exactly once: a transaction is opened after the model's work, the outcomes are written, the offsets added under the
newest group metadata; then it is committed.

What can go wrong, and what then (librdkafka's error algebra):

- not owned any more: abort; the core filters and plans again;
- a rebalance moved the generation: abort; the core plans again from memory;
- a topic refused records: abort, and look at the topics; the core is told what they refuse for good, and plans without;
- the way is too slow for the plan: as if the end were unclear; the core makes smaller plans;
- the brokers were all lost: a new producer before the next call, since this one's may hang (below);
- fenced, fatal, abortable for another reason, and every commit whose end is unclear: a new producer under the same id,
  whose init_transactions ends the old one's transaction one way or the other; the committed offsets then say which, and
  the core cuts there.
  librdkafka has no KIP-890, so an unclear commit is never tried again on the same producer.

`send_offsets_to_transaction` may hang for ever, whatever its timeout: librdkafka drops a broker that the metadata do
not list, as those of a broker that starts do not list itself at first, and goes on waiting for it where it was the
group's coordinator (#5511, #5456). With one broker that was killed and came back, 14 of 83 producers hung, and none of
41 that were made anew afterwards. What hangs all the same is left behind with its thread and its producer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streamer.core.pipeline.protocol import Settle, Settled, Unsettled
from streamer.core.plan_encoder import TakenBackError
from streamer.kafka import patience
from streamer.kafka.errors import Act, act_on_producer, error_of, start_error
from streamer.kafka.sink import REFUSALS, FencedError, KafkaSink, RelievedError

INIT_S = 5.0
ASK_S = 0.05
"""A broker that is still ending what the slot's last owner left open says so at once, and librdkafka asks again only
after half a second; a new call asks at once, and only waits where a request is under way (librdkafka 2.16, tried with a
broker frozen at 60 moments of a call)."""
SEND_S = 5.0
HUNG_S = 2 * SEND_S
CALL_PATIENCE_S = 9.0  # below transaction.timeout.ms: past it the broker has aborted by itself
_REBALANCES = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS})
"""After an abort for another reason, such as an outage, the producer is not used again."""
FENCED_LIMIT = 3
FENCED_WINDOW_S = 60.0

log = logging.getLogger(__name__)


class _CutOffError(Exception):
    """The brokers were lost in the middle of a plan."""


class TransactionalSink(KafkaSink):
    """Exactly once: one transaction a plan."""

    def __init__(self, *args: Any, transactional_id: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resource = f"transactional-id {transactional_id}"
        self._fenced_at: list[float] = []
        self._handover = threading.Lock()
        self._sending: tuple[Settle, float] | None = None  # the plan whose offsets are being sent, and since when

    def relieve(self, now: float) -> None:
        """Replace the thread where it stands in a call of the client that does not come back: another one makes a
        new producer, whose init_transactions ends what the old one left open. The old one's memory is lost."""
        with self._handover:
            if self._sending is None or now - self._sending[1] < HUNG_S:
                return
            plan, self._sending = self._sending[0], None
            resume = partial(self._work, plan, self._resume)
            self._thread = threading.Thread(target=self._run, args=(resume,), name="sink", daemon=True)
        log.warning("the producer hangs: it is left behind")
        self._thread.start()

    def _resume(self, plan: Settle) -> Unsettled:
        """Go on where another thread was left in a call."""
        self._producer = None
        return self._anew(plan, HUNG_S)

    def _begin(self, patience_s: float) -> None:
        try:
            self._init(patience_s)
        except KafkaException as error:
            raise start_error(error, address=self._address, operation="Write", resource=self._resource) from None

    def _init(self, patience_s: float) -> None:
        """End what the slot's last owner left open. Raises KafkaException."""
        self._retry(lambda producer: producer.init_transactions(ASK_S), patience_s)

    def _settle(self, plan: Settle) -> Settled | Unsettled:
        assert self._producer is not None
        self._hear()
        if self._producers.cut_off:
            log.info("the brokers were away: a new producer")
            self._rebuild()
        elif not self._producers.fits():
            log.info("the topics take other sizes: a new producer")
            self._rebuild()
        if refusals := self._without_place(plan):
            return Unsettled(plan.settle, "refused", refusals=refusals)
        began = time.monotonic()
        try:
            self._producer.begin_transaction()
            self._produce(plan)
            ownership = self._offsets.ownership
            if not ownership.holds(plan.epochs):
                self._abort()
                return Unsettled(plan.settle, "ownership")
            offsets = self._listed(plan)
            self._retry(lambda producer: self._send_offsets(producer, plan, offsets, ownership.metadata))
            self._retry(lambda producer: producer.commit_transaction())
            return Settled(plan.settle, size_bytes=self._produced_bytes)
        except TakenBackError:
            return self._back(plan, "refused")
        except KafkaException as error:
            return self._recover(plan, error)
        except _CutOffError:
            return self._anew(plan, time.monotonic() - began)

    def _hear(self) -> None:
        """Serve what the producer has to say: of the brokers, and delivery reports. Of a fatal error it raises, and so
        will its next call, which is where that is handled."""
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.poll(0)

    def _retry(self, call: Callable[[Producer], None], patience_s: float = CALL_PATIENCE_S) -> None:
        """Repeat a call that librdkafka calls retriable, with the same arguments, while the transaction lives."""
        assert self._producer is not None
        deadline = time.monotonic() + patience_s
        while True:
            try:
                call(self._producer)
                return
            except KafkaException as error:
                if act_on_producer(error) is not Act.RETRY or time.monotonic() > deadline:
                    raise

    def _send_offsets(self, producer: Producer, plan: Settle, offsets: list[TopicPartition], metadata: Any) -> None:
        """The call that may hang. Raises RelievedError where it came back after this thread was replaced."""
        if self._producers.cut_off:
            raise _CutOffError
        self._sending = plan, time.monotonic()
        try:
            producer.send_offsets_to_transaction(offsets, metadata, SEND_S)
        finally:
            with self._handover:
                if threading.current_thread() is not self._thread:
                    raise RelievedError
                self._sending = None

    def _abort(self) -> None:
        self._retry(lambda producer: producer.abort_transaction())

    def _recover(self, plan: Settle, error: KafkaException) -> Unsettled:
        act, why = act_on_producer(error), error_of(error)
        error.with_traceback(None)  # its frames would keep the producer alive that we are about to drop
        log.warning("a transaction failed", extra={"data": {"error": why.name(), "act": act.value}})
        self._hear()
        for denied in (why, *self._refused.values()):
            if act_on_producer(denied) is Act.DENIED:
                raise KafkaException(denied)
        if self._refused or act in REFUSALS:
            return self._back(plan, "refused", refused=why)
        if act is Act.ABORT and why.code() in _REBALANCES:
            return self._back(plan, "abort")
        return self._unclear(plan, act, why)

    def _back(self, plan: Settle, reason: str, refused: KafkaError | None = None) -> Unsettled:
        """Abort; with a new producer where that fails. What was `refused` is said."""
        try:
            self._abort()
        except KafkaException as error:
            fact = self._unclear(plan, act_on_producer(error), error_of(error))
        else:
            fact = Unsettled(plan.settle, reason)
        if refused is not None:
            fact = msgspec.structs.replace(fact, refusals=self._refusals(plan, refused), error=refused.name())
        return fact

    def _unclear(self, plan: Settle, act: Act, why: KafkaError) -> Unsettled:
        """A new producer ends the transaction. One that took longer than it may was ended by the broker, which looks
        like a second owner of the slot."""
        seconds = time.monotonic() - (self.plan_since or 0.0)
        if act is Act.FENCED and seconds < CALL_PATIENCE_S:
            self._note_fenced()
        fact = self._anew(plan, seconds)
        # Records wait in vain for a topic that is gone.
        refusals = self._refusals(plan, None) if seconds > SEND_S else ()
        return msgspec.structs.replace(fact, error=why.name(), refusals=refusals)

    def _anew(self, plan: Settle, seconds: float) -> Unsettled:
        """A new producer, `seconds` after the plan was begun, and what the committed offsets say of the plan's end."""
        size_bytes, delivered_bytes = self._produced_bytes, self._delivered_bytes
        self._rebuild()
        return Unsettled(
            plan.settle,
            "rebuild",
            self._committed(plan),
            seconds=seconds,
            size_bytes=size_bytes,
            delivered_bytes=delivered_bytes,
        )

    def _note_fenced(self) -> None:
        """A broker that timed our transaction out looks the same as a second owner of the slot; that one comes back."""
        now = time.monotonic()
        self._fenced_at = [at for at in self._fenced_at if now - at < FENCED_WINDOW_S] + [now]
        if len(self._fenced_at) > FENCED_LIMIT:
            raise FencedError

    def _rebuild(self) -> None:
        """A new producer under the same id; its init_transactions ends whatever the old one left open."""
        while not self._closing:
            self.busy_since = time.monotonic()  # waiting for brokers is no standing still
            self._drop_producer()
            self._producer = self._producers.make()
            try:
                self._init(INIT_S)
                return
            except KafkaException as error:
                if act_on_producer(error) is Act.DENIED:
                    raise
                log.warning("the producer waits for the brokers", extra={"data": {"error": error_of(error).name()}})
                time.sleep(0.2)

    def _committed(self, plan: Settle) -> dict[tuple[str, int], int]:
        """What the group has committed of the plan's partitions; asked until the broker answers. Raises
        DependencyError where a transaction that does not end withholds it."""
        partitions = [TopicPartition(*key) for key in plan.offsets]
        deadline = time.monotonic() + patience.PATIENCE_S
        while not self._closing:
            self.busy_since = time.monotonic()
            try:
                found = self._offsets.call(lambda consumer: consumer.committed(partitions, timeout=5.0)).result(30.0)
                return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
            except (KafkaException, TimeoutError) as error:
                log.warning("no answer about committed offsets", extra={"data": {"error": type(error).__name__}})
                withheld = self._offsets.withheld(partitions) if time.monotonic() > deadline else None
                if withheld is not None:
                    raise withheld from None
            except RuntimeError:
                break  # the source is closed: the process ends, nobody plans again
        return {}
