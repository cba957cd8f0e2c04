"""The second step of a start: where outcomes go.

The slot's last owner may have left a transaction open, which takes the brokers a while to end. So this imports no more
than it takes to ask for that and for the topics; all that `assemble` knows is imported while they answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamer.app.workers import Started, pipeline_of
from streamer.config.load import Config
from streamer.core.pipeline.protocol import Input, SinkFailed
from streamer.errors import ExitCode, StreamerError
from streamer.kafka.clients import producer_properties
from streamer.kafka.early_producer import EarlyProducer
from streamer.kafka.output_topics import OutputTopics
from streamer.kafka.sink import KafkaSink


@dataclass(frozen=True, slots=True)
class Outlet:
    """A sink that connects, and the topics that it writes, which are looked at."""

    sink: KafkaSink
    topics: OutputTopics


def open_outlet(config: Config, name: str, started: Started) -> Outlet:
    """Connect the sink and check the topics, each on a thread of its own: a restart waits for the workers, not for
    these too. What is wrong with the topics is posted as `SinkFailed`; with the sink, `KafkaSink.open` raises it."""
    topics = OutputTopics(config, name)
    sink = _make_sink(config, name, started, topics)
    sink.connect()

    def check_now() -> None:
        try:
            topics.check()
        except Exception as error:
            topics.ready.set_exception(error)
            started.inbox.put(failure(error, "the topics could not be checked"))
        else:
            topics.ready.set_result(None)

    threading.Thread(target=check_now, name="topic-check", daemon=True).start()
    return Outlet(sink, topics)


def failure(error: Exception, what: str) -> SinkFailed:
    """What ends the pipeline when a part made on a thread of its own can't be."""
    if isinstance(error, StreamerError):
        return SinkFailed(error.exit_code, str(error))
    return SinkFailed(ExitCode.BUG, f"{what}: {type(error).__name__}")


def _make_sink(config: Config, name: str, started: Started, topics: OutputTopics) -> KafkaSink:
    pipeline, slot = pipeline_of(config, name), started.slot.name
    post: Callable[[Input], None] = started.inbox.put
    address = config.kafka.bootstrap_servers

    sink: KafkaSink

    def on_delivery(error: Any, message: Any) -> None:
        sink.on_delivery(error, message)

    def properties(smallest: int, largest: int) -> dict[str, Any]:
        given = producer_properties(config.kafka, pipeline, slot, batch_bytes=smallest, largest_bytes=largest)
        return {**given, "on_delivery": on_delivery}

    producers = EarlyProducer(topics.ready, topics.sizes, properties)
    if pipeline.guarantee == "exactly_once":
        from streamer.kafka.transactional_sink import TransactionalSink

        identity = f"{pipeline.group}.{slot}"
        sink = TransactionalSink(producers, topics, post, address, group=pipeline.group, transactional_id=identity)
    else:
        from streamer.kafka.idempotent_sink import IdempotentSink

        sink = IdempotentSink(producers, topics, post, address, group=pipeline.group)
    return sink
