"""The shortest transactional loop on Kafka: `python -m streamer.bench.baselines.raw_loop SETTINGS.json`.

Same client properties, event type, result and headers as `streamer run` with `builtin:null`, and nothing else: no
worker, no cache, no failure handling. `wait` says how it takes records: `full` waits up to 100 ms for a whole
micro-batch, which suits a backlog; `first` polls for one record and takes what is there with it, which suits latency.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from streamer.core.record import TextEvent

FULL_WAIT_S = 0.1


class Model(msgspec.Struct, gc=False):
    """The result's `model`."""

    name: str
    revision: str


class Source(msgspec.Struct, gc=False):
    """The result's `source`."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Result(msgspec.Struct, gc=False):
    """The value of a result."""

    id: str
    pipeline: str
    task: str
    model: Model
    output: dict[str, float]
    cached: bool
    truncated: bool
    source: Source


def run(
    consumer: dict[str, Any],
    producer: dict[str, Any],
    source: str,
    target: str,
    micro_batch_records: int,
    records: int,
    wait: str,
) -> None:
    """Take from the topic `source`, answer `{}`, settle, until `records` are done; 0 is never."""
    reader, writer = Consumer(consumer), Producer(producer)
    writer.init_transactions()
    reader.subscribe([source])
    decode, encode = msgspec.json.Decoder(TextEvent).decode, msgspec.json.Encoder().encode
    model, bare_source = Model("null", "1"), source.encode()
    head, tail = (
        ("ce_specversion", b"1.0"),
        [
            ("ce_source", b"/streamer/bench"),
            ("ce_type", b"streamer.result.v1"),
            ("content-type", b"application/json"),
            ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        ],
    )
    done = 0
    while not records or done < records:
        messages = _take(reader, micro_batch_records, wait)
        if not messages:
            continue
        writer.begin_transaction()
        offsets: dict[int, int] = {}
        for message in messages:
            event = decode(message.value())
            partition, offset = message.partition(), message.offset()
            place = Source(source, partition, offset, message.timestamp()[1])
            value = encode(Result(str(event.id), "bench", "null", model, {}, False, False, place))
            headers: Any = [head, ("ce_id", b"bench/%b/%d/%d" % (bare_source, partition, offset)), *tail]
            writer.produce(target, value, message.key(), partition, headers=headers)
            offsets[partition] = offset + 1
        writer.poll(0)
        commits = [TopicPartition(source, partition, offset) for partition, offset in offsets.items()]
        writer.send_offsets_to_transaction(commits, reader.consumer_group_metadata())
        writer.commit_transaction()
        done += len(messages)
    reader.close()


def _take(reader: Consumer, most: int, wait: str) -> list[Any]:
    messages: list[Message]
    if wait == "full":
        messages = reader.consume(most, FULL_WAIT_S)
    else:
        first = reader.poll(FULL_WAIT_S)
        messages = [first, *reader.consume(most - 1, 0)] if first is not None else []
    return [message for message in messages if message.error() is None]


if __name__ == "__main__":
    run(**json.loads(Path(sys.argv[1]).read_bytes()))
