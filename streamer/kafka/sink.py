"""A sink: outcomes and offsets made durable together, one plan at a time, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streamer.core.ownership import Ownership
from streamer.core.pipeline.protocol import ModelCard, OutputLimit, Settle, Settled, SinkFailed, Unsettled
from streamer.core.pipeline.refusal import Refusal
from streamer.core.pipeline.refusals import concerned
from streamer.core.results.plan_encoder import TakenBackError
from streamer.core.settle.at_least_once import AtLeastOnce
from streamer.core.settle.calls import (
    REFUSALS,
    Act,
    Asked,
    Call,
    Client,
    ClosingError,
    CutOffError,
    Failed,
    FencedError,
    LookAtRefusals,
    Pause,
    Steps,
    Written,
)
from streamer.core.settle.exactly_once import ExactlyOnce
from streamer.core.steps import perform
from streamer.errors import ExitCode, StreamerError
from streamer.kafka.errors import NOT_THERE, act_on_producer, error_of, start_error
from streamer.kafka.output_topics import FRESH_S, LOOK_S, OutputTopics
from streamer.kafka.producers import Producers
from streamer.ports import Post

if TYPE_CHECKING:
    from streamer.core.results.plan_encoder import PlanEncoder

INIT_PATIENCE_S = 30.0
HEADERS_BYTES = 300  # about what a result's headers and frame take

T = TypeVar("T")
log = logging.getLogger(__name__)


class ThreadReplacedError(Exception):
    """This thread was given up: another one has its place."""


class Offsets(Protocol):
    """What a sink needs of the source: who owns what, calls on the consumer's thread, the metadata of an offset, and
    why committed offsets are withheld, where it is for a transaction that has not ended."""

    ownership: Ownership

    def call(self, function: Callable[[Consumer], T]) -> Future[T]: ...
    def note(self, partition: tuple[str, int], offset: int) -> str: ...
    def withheld(self, partitions: list[TopicPartition]) -> StreamerError | None: ...


class KafkaSink(ABC):
    """Implements `streamer.ports.Sink`: the thread and its queue, and the calls that both guarantees share. What is
    called when is decided in `core.settle`. The `source` need not be there before `open`."""

    _protocol: ExactlyOnce | AtLeastOnce
    _offsets: Offsets

    def __init__(
        self,
        producers: Producers,
        topics: OutputTopics,
        source: Future[Offsets],
        make_encoder: Callable[[ModelCard], PlanEncoder],
        post: Post,
        address: str,
        *,
        group: str,
    ) -> None:
        self.busy_since: float | None = None  # since when it is at one step of a plan
        self.plan_since: float | None = None  # since when it is at one plan, waits for brokers included
        self._producers = producers
        self._topics = topics
        self._source = source
        self._make_encoder = make_encoder
        self._post = post
        self._address = address
        self._group = group
        self._producer: Producer | None = None
        self._encoder: PlanEncoder | None = None
        self._produced = 0
        self._produced_bytes = 0
        self._reports: dict[int, KafkaError] = {}  # one failed delivery of each code
        self._refused: dict[tuple[str, int], KafkaError] = {}  # why, by output topic and partition
        self._plans: SimpleQueue[Settle | None] = SimpleQueue()
        self._connected: Future[None] = Future()
        self._at_rest = threading.Event()  # not encoding and not handing over
        self._at_rest.set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)

    def connect(self) -> None:
        """Once the topics are known make the producer, and end what an earlier owner of this slot left open, on a
        thread of its own: a restart need not wait for this after it has waited for the workers."""
        threading.Thread(target=self._connect, name="sink-connect", daemon=True).start()

    def _connect(self) -> None:
        try:
            self._topics.ready.result()
            self._producer = self._producers.make(self.on_delivery)
            self._begin(INIT_PATIENCE_S)
        except Exception as error:
            self._connected.set_exception(error)
        else:
            self._connected.set_result(None)

    @property
    def is_connected(self) -> bool:
        """Whether the producer that `connect` makes is there, or what is wrong with it is known."""
        return self._connected.done()

    def open(self, card: ModelCard) -> None:
        """Wait for the topics and for the producer that `connect` makes; raises what is wrong with either."""
        self._connected.result()
        self._offsets = self._source.result()
        self._post(self._limit())
        self._encoder = self._make_encoder(card)
        self._thread.start()

    def wait_turn(self, timeout_s: float) -> None:
        """Wait while this sink encodes and hands records over."""
        self._at_rest.wait(timeout_s)

    def look(self) -> None:
        """Look at how large a result the output takes, on a thread of its own: the sink's may wait for brokers."""
        threading.Thread(target=lambda: self._post(self._limit(refresh=True)), name="sink-look", daemon=True).start()

    def _limit(self, *, refresh: bool = False) -> OutputLimit:
        return OutputLimit(self._topics.limits(refresh).result_bytes)

    def settle(self, plan: Settle) -> None:
        """Queue a plan."""
        self._at_rest.clear()
        self._plans.put(plan)

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """Called by the producer, for failures only (`delivery.report.only.error`)."""
        if error is None:
            return
        self._reports[error.code()] = error
        if act_on_producer(error) in REFUSALS | {Act.DENIED}:
            self._refused[message.topic() or "", message.partition() or 0] = error

    def close(self, timeout_s: float) -> None:
        """Finish the plan under way, then close."""
        self._closing = True
        self._plans.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self, first: Callable[[], None] = lambda: None) -> None:
        """Settle one plan after the other, once `first` is done."""
        try:
            first()
            while (plan := self._plans.get()) is not None:
                self._work(plan, self._protocol.settle(plan))
        except ThreadReplacedError:
            return
        except Failed as failed:
            operation, resource = self._denied(failed.error)
            failure = start_error(failed.error, address=self._address, operation=operation, resource=resource)
            self._post(SinkFailed(failure.exit_code, str(failure)))
        except StreamerError as failure:
            self._post(SinkFailed(failure.exit_code, str(failure)))
        except FencedError:
            self._post(
                SinkFailed(
                    ExitCode.FENCED,
                    "another producer took this slot's transactional id again and again; do not restart this process. "
                    "Two replicas may not share a slot: leave slot empty, or set it to different names",
                )
            )
        except Exception:
            log.exception("the sink thread ended")
            self._post(SinkFailed(ExitCode.BUG, "the sink thread ended with an exception, see the log"))
        finally:
            if threading.current_thread() is self._thread:
                self._at_rest.set()
                self._drop_producer()  # what it still holds belongs to no settled plan

    def _work(self, plan: Settle, steps: Steps[Settled | Unsettled]) -> None:
        self.busy_since = self.plan_since = began = time.monotonic()
        fact = self._perform(steps, plan)
        self.busy_since = self.plan_since = None
        fact = msgspec.structs.replace(fact, seconds=fact.seconds or time.monotonic() - began)
        if isinstance(fact, Unsettled):
            # What is refused is said by the partitions that stand for it, and by dead letters.
            level = logging.DEBUG if fact.refusals else logging.WARNING
            why = {"reason": fact.reason, **({"error": fact.error} if fact.error else {})}
            log.log(level, "a settle was rolled back", extra={"data": why})
        self._at_rest.set()
        self._post(fact)

    def _perform(self, steps: Steps[T], plan: Settle | None = None) -> T:
        """Make the calls that the steps ask for, until they end; `plan` is what they are about."""

        def call(asked: Asked) -> Any:
            try:
                return self._call(asked, plan)
            except KafkaException as error:
                failed = failed_of(error)
                if failed.act is not Act.RETRY:
                    log.warning("a call failed", extra={"data": {"error": failed.name, "act": failed.act.value}})
                raise failed from None

        return perform(steps, call, (Failed, TakenBackError, CutOffError, ClosingError))

    def _call(self, asked: Asked, plan: Settle | None) -> Any:
        """One call of those that both guarantees make."""
        match asked:
            case Call.NOW:
                return time.monotonic()
            case Call.CLIENT:
                return self._client()
            case Call.NEW_PRODUCER:
                if self._closing:
                    raise ClosingError
                self.busy_since = time.monotonic()  # waiting for brokers is no standing still
                self._drop_producer()
                self._producer = self._producers.make(self.on_delivery)
            case Call.OWNERSHIP:
                return self._offsets.ownership
            case Call.REPORTS:
                self._hear()
                return [Failed(act_on_producer(error), error.name(), error) for error in self._reports.values()]
            case Call.WRITTEN:
                return Written(self._produced_bytes, self._delivered_bytes)
            case Pause():
                data = {"error": asked.why.name}
                log.warning("the sink waits for the brokers", extra={"data": data})
                time.sleep(asked.seconds)
            case Call.PLACES if plan is not None:
                return self._without_place(plan)
            case Call.WRITE if plan is not None:
                self._produce(plan)
            case LookAtRefusals() if plan is not None:
                return self._refusals(plan, asked.why.error if asked.why is not None else None)
            case _:
                raise AssertionError(f"{type(self).__name__} makes no {asked}")
        return None

    def _client(self) -> Client:
        self._hear()
        if self._producers.cut_off:
            log.info("the brokers were away: starting a new producer")
            return Client.CUT_OFF
        if not self._producers.fits():
            log.info("the topics' size limits have changed: starting a new producer")
            return Client.OTHER_SIZES
        return Client.FINE

    def _hear(self) -> None:
        """Serve what the producer has to say: of the brokers, and delivery reports. Of a fatal error it raises, and so
        will its next call, which is where that is handled."""
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.poll(0)

    def _drop_producer(self) -> None:
        """Destroy the producer without its `close`: that one first aborts the open transaction and waits without limit
        for the brokers, or raises the fatal error that we are recovering from (both measured)."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    def _produce(self, plan: Settle) -> None:
        """Encode the plan and hand its records to the client; waits where its queue is full. Raises KafkaException and
        TakenBackError."""
        assert self._encoder is not None
        assert self._producer is not None
        self._produced = self._produced_bytes = 0
        self._reports.clear()
        self._refused.clear()
        produce, poll = self._producer.produce, self._producer.poll
        for outputs in self._encoder.encode(plan, int(time.time() * 1000)):
            size_bytes = HEADERS_BYTES * len(outputs)
            for topic, partition, key, value, headers in outputs:
                size_bytes += len(value or b"")
                while True:
                    try:
                        # By position: a call with a keyword takes a fifth longer.
                        produce(topic, value, key, partition, None, None, 0, headers)  # type: ignore[arg-type]
                        break
                    except BufferError:
                        poll(0.05)
                    except KafkaException as error:
                        if act_on_producer(error) in REFUSALS:
                            self._refused[topic, partition] = error_of(error)
                        raise
            self._produced += len(outputs)
            self._produced_bytes += size_bytes
        self._at_rest.set()
        poll(0)

    def _with_notes(self, offsets: dict[tuple[str, int], int]) -> list[TopicPartition]:
        """Offsets with the metadata by which the next owner knows who settled them."""
        note = self._offsets.note
        return [TopicPartition(*key, offset, note(key, offset)) for key, offset in offsets.items()]

    @property
    def _delivered_bytes(self) -> int:
        """About how much of the plan the brokers have taken."""
        pending = len(self._producer) if self._producer is not None else self._produced
        return self._produced_bytes * max(self._produced - pending, 0) // max(self._produced, 1)

    # --- what the brokers refuse --------------------------------------------------------------------------------------

    def _without_place(self, plan: Settle) -> tuple[Refusal, ...]:
        """Where outcomes of this plan have no place. The brokers are asked where there was none at the last look."""
        missing = self._missing(plan)
        if missing and self._topics.look(FRESH_S):
            self._tell_client()
            missing = self._missing(plan)
        return missing

    def _refusals(self, plan: Settle, why: KafkaError | None) -> tuple[Refusal, ...]:
        """What the brokers refuse of this plan for good, after a look at the topics: none where these have changed, so
        that the plan, made again, is another one. `why` is the transaction's own error."""
        refused = dict(self._refused)
        changed = self._topics.look()
        missing = self._missing(plan)
        if missing or changed:
            self._post(self._limit())
            self._tell_client()
            return missing
        refusals = []
        for (topic, partition), error in refused.items():
            if why is not None and act_on_producer(why) is Act.BAD_TOPIC:
                error = why  # reports tell of an invalid record where it is a timestamp
            act = act_on_producer(error)
            if error.code() in NOT_THERE:
                self._tell_client()  # it is there: the client is what does not know it
                continue
            refusals.append(
                self._topics.refusal(
                    topic, partition, error.name(), size=act is Act.TOO_LARGE, record=act is Act.BAD_RECORD
                )
            )
        return tuple(refusals)

    def _denied(self, error: KafkaError) -> tuple[str, str]:
        """Which right to what an error speaks of, in the words of ACLs."""
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return "Read", f"group {self._group}"
        named = (topic for (topic, _), each in self._refused.items() if each.code() == error.code())
        topics = sorted(self._topics.names)  # a transaction's own error does not say which
        return "Write", f"topic {topic}" if (topic := next(named, "")) else f"topics {', '.join(topics)}"

    def _missing(self, plan: Settle) -> tuple[Refusal, ...]:
        return tuple(one for one in self._topics.missing(plan.offsets) if any(concerned(plan, one)))

    def _tell_client(self) -> None:
        """Let the producer learn how many partitions the topics have now: by itself it looks every 5 min."""
        if self._producer is None:
            return
        try:
            for topic in self._topics.names:
                self._producer.list_topics(topic, timeout=LOOK_S)
        except KafkaException as error:
            log.warning("no metadata of the output topics", extra={"data": {"error": error_of(error).name()}})

    @abstractmethod
    def replace_if_hung(self, now: float) -> None:
        """Replace the thread where it stands in a call of the client that does not come back."""

    @abstractmethod
    def _begin(self, patience_s: float) -> None: ...


def failed_of(error: KafkaException) -> Failed:
    """A client's error as the steps know it."""
    inner = error_of(error)
    return Failed(act_on_producer(inner), inner.name(), inner)
