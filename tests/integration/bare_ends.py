"""A run's two ends on Kafka without the run between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple

from streamer.config.load import load
from streamer.core.intake import SourcePolicy
from streamer.core.pipeline.protocol import Assigned, Input, ModelCard, OutputLimit, Settle
from streamer.core.results.encoder import Encoder
from streamer.core.results.plan_encoder import PlanEncoder
from streamer.kafka.clients import consumer_properties, make_consumer, producer_properties
from streamer.kafka.output_topics import OutputTopics
from streamer.kafka.producers import Producers
from streamer.kafka.settled import held_by_transaction
from streamer.kafka.sink import Offsets
from streamer.kafka.source.source import KafkaSource
from streamer.kafka.topics import check, connect
from streamer.kafka.transactional_sink import TransactionalSink
from tests.acceptance.harness import PIPELINE, Lab, wait_for

SLOT = "a"


class Reading(NamedTuple):
    """A source that has started, and what it says."""

    source: KafkaSource
    posted: list[Input]

    def await_partitions(self) -> None:
        """Wait for the first assignment."""
        wait_for(lambda: any(isinstance(fact, Assigned) for fact in self.posted), "the partitions")


@contextmanager
def reading(lab: Lab) -> Iterator[Reading]:
    """A source of the lab's group."""
    config = load(lab.config(), {})
    properties = consumer_properties(config.kafka, config.pipelines[PIPELINE], SLOT)
    posted: list[Input] = []
    held = partial(held_by_transaction, config.kafka, lab.group)
    policy = SourcePolicy([lab.input], group=lab.group)
    source = KafkaSource(partial(make_consumer, properties), policy, posted.append, held)
    source.start()
    try:
        yield Reading(source, posted)
    finally:
        source.close(10)


class Settling:
    """A sink for `reading`, and what it says. `made` holds the properties of each of its producers."""

    def __init__(self, lab: Lab, source: KafkaSource) -> None:
        config = load(lab.config(), {})
        self.made: list[dict[str, object]] = []
        topics = OutputTopics(config, PIPELINE)
        wait_for(lambda: not check(connect(config.kafka), config, [PIPELINE]), "the topics")
        topics.check()
        topics.ready.set_result(None)

        def properties(batch_bytes: int, largest_bytes: int) -> dict[str, object]:
            pipeline = config.pipelines[PIPELINE]
            self.made.append(
                producer_properties(config.kafka, pipeline, SLOT, batch_bytes=batch_bytes, largest_bytes=largest_bytes)
            )
            return self.made[-1]

        self._card = ModelCard("m", "1", "null", "float32", "none")
        encoder = Encoder(
            pipeline=PIPELINE,
            task="null",
            card=self._card,
            output_topic=lab.output,
            dead_letter_topic=lab.dead_letter,
            limits=topics.limits(),
        )
        self._place = (lab.input, 0)
        self._source = source
        self._posted: SimpleQueue[Input] = SimpleQueue()
        self._plans = 0
        reader: Future[Offsets] = Future()
        reader.set_result(source)
        self.sink = TransactionalSink(
            Producers(topics.sizes, properties),
            topics,
            reader,
            lambda _: PlanEncoder(encoder),
            lambda fact: None if isinstance(fact, OutputLimit) else self._posted.put(fact),
            lab.bootstrap_servers,
            group=lab.group,
            transactional_id=f"{lab.group}.{SLOT}",
        )
        self.sink.connect()

    def open(self) -> None:
        """Wait for the producer."""
        self.sink.open(self._card)

    def settle(self, offset: int) -> Input:
        """Have this offset of the input's first partition settled; returns what came of it. As a driver does, the
        sink is asked to leave calls that hang."""
        self._plans += 1
        self.sink.settle(Settle(self._plans, [], {self._place: offset}, self._source.ownership.epochs))
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            self.sink.replace_if_hung(time.monotonic())
            try:
                return self._posted.get(timeout=0.05)
            except Empty:
                continue
        raise AssertionError("the sink says nothing")

    @property
    def silent(self) -> bool:
        """Whether all that it said was taken."""
        return self._posted.empty()


@contextmanager
def settling(lab: Lab, source: KafkaSource) -> Iterator[Settling]:
    """A sink for this source."""
    settling = Settling(lab, source)
    try:
        yield settling
    finally:
        settling.sink.close(10)
