"""The sinks: outcomes and offsets made durable together, one plan at a time, on a thread of their own.

`TransactionalSink` (exactly once) opens a transaction after the model's work, writes the outcomes, adds the offsets
under the newest group metadata, commits. What can go wrong, and what then (librdkafka's error algebra):

- not owned any more: abort; the core filters and plans again;
- a rebalance moved the generation, or a topic refused a record: abort; the core plans again from memory;
- fenced, fatal, abortable for another reason, and every commit whose end is unclear: a new producer under the same id,
  whose init_transactions ends the old one's transaction one way or the other; the committed offsets then say which, and
  the core cuts there.
  librdkafka has no KIP-890, so an unclear commit is never tried again on the same producer.

`IdempotentSink` (at least once) writes, waits for all acknowledgements, then commits the offsets.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streamer.core.pipeline.protocol import ModelCard, Settle, Settled, SinkFailed, Unsettled
from streamer.core.plan_encoder import PlanEncoder
from streamer.errors import ExitCode
from streamer.kafka.early_producer import EarlyProducer
from streamer.kafka.errors import Act, act_on_producer, error_of, start_error
from streamer.kafka.ownership import Ownership
from streamer.ports import Post

INIT_S = 5.0
INIT_PATIENCE_S = 30.0
FIRST_INIT_S = 0.2
"""A broker that is still ending what the slot's last owner left open says so at once, and librdkafka asks again only
after half a second; a new call asks at once. But a call while a request is under way asks twice, and the second answer
fences the first (librdkafka 2.16), so only what was answered is asked again early."""
NEXT_INIT_S = 0.1
CALL_PATIENCE_S = 9.0  # below transaction.timeout.ms: past it the broker has aborted by itself
_REBALANCES = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS})
"""After an abort for another reason, such as an outage, the producer is not used again: the next
`send_offsets_to_transaction` may hang for ever, whatever its timeout (seen with librdkafka 2.16.1)."""
FENCED_LIMIT = 3
FENCED_WINDOW_S = 60.0

T = TypeVar("T")
log = logging.getLogger(__name__)


class Offsets(Protocol):
    """What a sink needs of the source: who owns what, and calls on the consumer's thread."""

    ownership: Ownership

    def call(self, function: Callable[[Consumer], T]) -> Future[T]: ...


class _Sink(ABC):
    """The thread and its queue; what both guarantees share."""

    def __init__(
        self,
        producers: EarlyProducer,
        make_encoder: Callable[[ModelCard], PlanEncoder],
        offsets: Offsets,
        post: Post,
        address: str,
    ) -> None:
        self.busy_since: float | None = None  # since when it is at one step of a plan
        self.plan_since: float | None = None  # since when it is at one plan, waits for brokers included
        self._producers = producers
        self._make_encoder = make_encoder
        self._offsets = offsets
        self._post = post
        self._address = address
        self._producer: Producer | None = None
        self._encoder: PlanEncoder | None = None
        self._plans: SimpleQueue[Settle | None] = SimpleQueue()
        self._connected: Future[None] = Future()
        self._at_rest = threading.Event()  # not encoding and not handing over
        self._at_rest.set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)

    def connect(self) -> None:
        """Make the producer (and end what an earlier owner of this slot left open) on a thread of its own: a restart
        need not wait for this after it has waited for the workers."""
        threading.Thread(target=self._connect, name="sink-connect", daemon=True).start()

    def _connect(self) -> None:
        try:
            self._producer = self._producers.make()
            self._begin(INIT_PATIENCE_S)
            if not self._producers.fits():
                self._drop_producer()
                self._producer = self._producers.make()
                self._begin(INIT_PATIENCE_S)
        except Exception as error:
            self._connected.set_exception(error)
        else:
            self._connected.set_result(None)

    def open(self, card: ModelCard) -> None:
        """Wait for the topics' limits and for the producer that `connect` makes; raises what is wrong with either."""
        self._producers.await_limits()  # a login that is refused is told here, not after the producer's patience
        self._connected.result()
        self._encoder = self._make_encoder(card)
        self._thread.start()

    def wait_turn(self, timeout_s: float) -> None:
        """Wait while this sink encodes and hands records over."""
        self._at_rest.wait(timeout_s)

    def settle(self, plan: Settle) -> None:
        """Queue a plan."""
        self._at_rest.clear()
        self._plans.put(plan)

    def close(self, timeout_s: float) -> None:
        """Finish the plan under way, then close."""
        self._closing = True
        self._plans.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (plan := self._plans.get()) is not None:
                self.busy_since = self.plan_since = began = time.monotonic()
                fact = self._settle(plan)
                self.busy_since = self.plan_since = None
                fact = msgspec.structs.replace(fact, seconds=time.monotonic() - began)
                if isinstance(fact, Unsettled):
                    log.warning("a plan came to nothing", extra={"data": {"reason": fact.reason}})
                self._at_rest.set()
                self._post(fact)
        except KafkaException as error:
            failure = start_error(error, address=self._address, operation="Write", resource="the output topics")
            self._post(SinkFailed(failure.exit_code, str(failure)))
        except _FencedError:
            self._post(
                SinkFailed(
                    ExitCode.FENCED,
                    "another producer took this slot's transactional id again and again; do not restart this process. "
                    "Two replicas may not share a slot: let it be chosen, or set slot to different names",
                )
            )
        except Exception:
            log.exception("the sink thread ended")
            self._post(SinkFailed(ExitCode.BUG, "the sink thread ended with an exception, see the log"))
        finally:
            self._at_rest.set()
            self._drop_producer()  # what it still holds belongs to no settled plan

    def _drop_producer(self) -> None:
        """Destroy the producer without its `close`: that one first aborts the open transaction and waits without limit
        for the brokers, or raises the fatal error that we are recovering from (both measured)."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    def _produce(self, plan: Settle) -> None:
        """Encode the plan and hand its records to the client; waits where its queue is full."""
        assert self._encoder is not None
        assert self._producer is not None
        produce, poll = self._producer.produce, self._producer.poll
        for outputs in self._encoder.encode(plan, int(time.time() * 1000)):
            for topic, partition, key, value, headers in outputs:
                while True:
                    try:
                        # By position: a call with a keyword takes a fifth longer.
                        produce(topic, value, key, partition, None, None, 0, headers)  # type: ignore[arg-type]
                        break
                    except BufferError:
                        poll(0.05)
        self._at_rest.set()
        poll(0)

    @abstractmethod
    def _begin(self, patience_s: float) -> None: ...

    @abstractmethod
    def _settle(self, plan: Settle) -> Settled | Unsettled: ...


class TransactionalSink(_Sink):
    """Exactly once: one transaction a plan."""

    def __init__(self, *args: Any, transactional_id: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resource = f"transactional-id {transactional_id}"
        self._fenced_at: list[float] = []

    def _begin(self, patience_s: float) -> None:
        assert self._producer is not None
        deadline = time.monotonic() + patience_s
        wait_s = FIRST_INIT_S
        while True:
            try:
                self._producer.init_transactions(wait_s)
                return
            except KafkaException as error:
                wait_s = NEXT_INIT_S if error_of(error).code() == KafkaError.CONCURRENT_TRANSACTIONS else INIT_S
                if act_on_producer(error) is not Act.RETRY or time.monotonic() > deadline:
                    raise start_error(
                        error, address=self._address, operation="Write", resource=self._resource
                    ) from None

    def _settle(self, plan: Settle) -> Settled | Unsettled:
        assert self._producer is not None
        try:
            self._producer.begin_transaction()
            self._produce(plan)
            ownership = self._offsets.ownership
            if not ownership.holds(plan.epochs):
                self._abort()
                return Unsettled(plan.settle, "ownership")
            offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in plan.offsets.items()]
            self._retry(lambda producer: producer.send_offsets_to_transaction(offsets, ownership.metadata, 5.0))
            self._retry(lambda producer: producer.commit_transaction())
            return Settled(plan.settle)
        except KafkaException as error:
            return self._recover(plan, error)

    def _retry(self, call: Callable[[Producer], None]) -> None:
        """Repeat a call that librdkafka calls retriable, with the same arguments, while the transaction lives."""
        assert self._producer is not None
        deadline = time.monotonic() + CALL_PATIENCE_S
        while True:
            try:
                call(self._producer)
                return
            except KafkaException as error:
                if act_on_producer(error) is not Act.RETRY or time.monotonic() > deadline:
                    raise

    def _abort(self) -> None:
        self._retry(lambda producer: producer.abort_transaction())

    def _recover(self, plan: Settle, error: KafkaException) -> Unsettled:
        act = act_on_producer(error)
        error.with_traceback(None)  # its frames would keep the producer alive that we are about to drop
        log.warning("a transaction failed", extra={"data": {"error": error_of(error).name(), "act": act.value}})
        if act is Act.DENIED:
            raise error
        if act is Act.TOO_LARGE or (act is Act.ABORT and error_of(error).code() in _REBALANCES):
            try:
                self._abort()
                return Unsettled(plan.settle, "abort")
            except KafkaException as second:
                error = second
        if act_on_producer(error) is Act.FENCED:
            self._note_fenced()
        self._rebuild()
        return Unsettled(plan.settle, "rebuild", committed=self._committed(plan))

    def _note_fenced(self) -> None:
        """A broker that timed our transaction out looks the same as a second owner of the slot; that one comes back."""
        now = time.monotonic()
        self._fenced_at = [at for at in self._fenced_at if now - at < FENCED_WINDOW_S] + [now]
        if len(self._fenced_at) > FENCED_LIMIT:
            raise _FencedError

    def _rebuild(self) -> None:
        """A new producer under the same id; its init_transactions ends whatever the old one left open."""
        while not self._closing:
            self.busy_since = time.monotonic()  # waiting for brokers is no standing still
            self._drop_producer()
            self._producer = self._producers.make()
            try:
                self._producer.init_transactions(INIT_S)
                return
            except KafkaException as error:
                if act_on_producer(error) is Act.DENIED:
                    raise
                log.warning("the producer waits for the brokers", extra={"data": {"error": error_of(error).name()}})
                time.sleep(0.2)

    def _committed(self, plan: Settle) -> dict[tuple[str, int], int]:
        """What the group has committed of the plan's partitions; asked until the broker answers."""
        partitions = [TopicPartition(*key) for key in plan.offsets]
        while not self._closing:
            self.busy_since = time.monotonic()
            try:
                found = self._offsets.call(lambda consumer: consumer.committed(partitions, timeout=5.0)).result(30.0)
                return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
            except (KafkaException, TimeoutError) as error:
                log.warning("no answer about committed offsets", extra={"data": {"error": type(error).__name__}})
            except RuntimeError:
                break  # the source is closed: the process ends, nobody plans again
        return {}


class IdempotentSink(_Sink):
    """At least once: acknowledged outcomes first, then the offsets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._failed: list[KafkaError] = []

    def on_delivery(self, error: KafkaError | None, _: Message) -> None:
        """To be given to the producer; called for failures only (`delivery.report.only.error`)."""
        if error is not None:
            self._failed.append(error)

    def _begin(self, patience_s: float) -> None:
        assert self._producer is not None
        try:
            self._producer.list_topics(timeout=patience_s)
        except KafkaException as error:
            raise start_error(error, address=self._address) from None

    def _settle(self, plan: Settle) -> Settled | Unsettled:
        assert self._producer is not None
        if not self._offsets.ownership.holds(plan.epochs):
            return Unsettled(plan.settle, "ownership")
        try:
            self._produce(plan)
            while self._producer.flush(1.0) and not self._closing:
                pass
        except KafkaException as error:
            self._failed.append(error_of(error))
        if self._failed or len(self._producer):
            return self._undelivered(plan)
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in plan.offsets.items()]
        try:
            self._offsets.call(lambda consumer: self._commit(consumer, plan, offsets)).result(30.0)
        except (KafkaException, TimeoutError, RuntimeError) as error:
            log.warning("offsets were not committed", extra={"data": {"error": type(error).__name__}})
            return Unsettled(plan.settle, "commit")
        return Settled(plan.settle)

    def _commit(self, consumer: Consumer, plan: Settle, offsets: list[TopicPartition]) -> None:
        """On the source thread, so that ownership can't change between look and commit."""
        if not self._offsets.ownership.holds(plan.epochs):
            raise RuntimeError("not owned any more")
        for committed in consumer.commit(offsets=offsets, asynchronous=False) or ():
            if committed.error is not None:
                raise KafkaException(committed.error)

    def _undelivered(self, plan: Settle) -> Unsettled:
        """Order would break were the rest delivered later: a new producer, and everything is read again."""
        assert self._producer is not None
        names = {error.name() for error in self._failed}
        log.warning("outcomes were not delivered", extra={"data": {"errors": sorted(names)}})
        denied = next((error for error in self._failed if act_on_producer(error) is Act.DENIED), None)
        self._failed.clear()
        if denied is not None:
            raise KafkaException(denied)
        self._drop_producer()
        self._failed.clear()
        self._producer = self._producers.make()
        return Unsettled(plan.settle, "delivery", restart=True)


class _FencedError(Exception):
    """A second owner of the slot keeps coming back."""
