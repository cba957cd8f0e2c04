"""The first records at some offsets, as an onlooker reads them: when they were written, and what can't be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from streamer.config.fields import KafkaConfig
from streamer.core.events.framed import is_framed
from streamer.core.record import TopicPartition
from streamer.core.timestamps import written_ms
from streamer.kafka.clients import make_consumer, reader_properties
from streamer.kafka.errors import UNREADABLE, passes_for_reader, start_error

REQUEST_S = 10.0


class Head(NamedTuple):
    """What of a record is looked at: when it was written, in ms (0 where it does not say), or why it can't be read."""

    written_ms: int = 0
    damage: str = ""
    framed: bool = False


def first_records(
    kafka: KafkaConfig,
    starts: Mapping[TopicPartition, int],
    *,
    open_too: bool,
    check: Callable[[Iterable[TopicPartition]], Any],
) -> dict[TopicPartition, Head]:
    """The first record at or after each offset; with `open_too` those of open transactions, too. Partitions where only
    transaction markers are left have none. `check` raises where the brokers do not answer."""
    found: dict[TopicPartition, Head] = {}
    if not starts:
        return found
    consumer = make_consumer(
        {
            **reader_properties(kafka),
            "isolation.level": "read_uncommitted" if open_too else "read_committed",
            "enable.partition.eof": True,
            # One record of each partition is wanted: what is fetched beyond it is waste.
            "queued.min.messages": 1,
            "fetch.message.max.bytes": 16_384,
            # Without this some damage is skipped in silence, and behind other damage the client goes on anywhere.
            "check.crcs": True,
            "auto.offset.reset": "error",
        }
    )
    try:
        consumer.assign([KafkaPartition(*place, offset) for place, offset in starts.items()])
        left = set(starts)
        deadline = time.monotonic() + REQUEST_S
        while left:
            message = consumer.poll(0.2)
            if message is None:
                if time.monotonic() > deadline:
                    check(left)  # raises where the brokers do not answer
                    return found | dict.fromkeys(left, Head(damage=f"nothing came for {REQUEST_S:g} s"))
                continue
            place = (message.topic() or "", message.partition() or 0)
            if place not in left:
                continue
            error = message.error()
            if error is None:
                found[place] = Head(written_ms(message.timestamp()) or 0, framed=_is_framed(message))
            elif error.code() in UNREADABLE:
                found[place] = Head(damage=error.name().lstrip("_"))
            elif error.code() != KafkaError._PARTITION_EOF:
                if passes_for_reader(error) and time.monotonic() < deadline:
                    continue
                raise explained(kafka, error, "Read", f"topic {place[0]}")
            left.discard(place)
            consumer.incremental_unassign([KafkaPartition(*place)])
    finally:
        consumer.close()
    return found


def explained(kafka: KafkaConfig, error: KafkaException | KafkaError, operation: str, resource: str) -> Exception:
    """What an onlooker's failed request means, and how to fix it."""
    return start_error(error, address=kafka.bootstrap_servers, operation=operation, resource=resource)


def _is_framed(message: Message) -> bool:
    """Of a record that is read as JSON, since it does not say what else it is."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    named = any(name.lower() == "content-type" for name, _ in headers)
    return not named and is_framed(message.value() or b"")
