"""The shortest transactional loop on Kafka: `python -m streamer.bench.baselines.raw_loop SETTINGS.json`.

Same client properties, event type, result and headers as `streamer run` with `builtin:null`, and nothing else: no
worker, no cache, no failure handling. `wait` says how it takes records: `full` waits up to 100 ms for a whole
micro-batch, which suits a backlog; `first` polls for one record and takes what is there with it, which suits latency.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from streamer.bench.baselines.settings import RawSettings
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


def run(settings: RawSettings) -> None:
    """Take, answer `{}`, settle, until `records` are done."""
    consumer, producer = Consumer(settings.consumer), Producer(settings.producer)
    producer.init_transactions()
    consumer.subscribe([settings.input])
    decode, encode = msgspec.json.Decoder(TextEvent).decode, msgspec.json.Encoder().encode
    topic_in, topic_out, model = settings.input, settings.output, Model("null", "1")
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
    while not settings.records or done < settings.records:
        messages = _take(consumer, settings)
        if not messages:
            continue
        producer.begin_transaction()
        offsets: dict[int, int] = {}
        for message in messages:
            event = decode(message.value())
            partition, offset = message.partition(), message.offset()
            source = Source(topic_in, partition, offset, message.timestamp()[1])
            value = encode(Result(str(event.id), "bench", "null", model, {}, False, False, source))
            headers: Any = [head, ("ce_id", b"bench/%b/%d/%d" % (topic_in.encode(), partition, offset)), *tail]
            producer.produce(topic_out, value, message.key(), partition, headers=headers)
            offsets[partition] = offset + 1
        producer.poll(0)
        commits = [TopicPartition(topic_in, partition, offset) for partition, offset in offsets.items()]
        producer.send_offsets_to_transaction(commits, consumer.consumer_group_metadata())
        producer.commit_transaction()
        done += len(messages)
    consumer.close()


def _take(consumer: Consumer, settings: RawSettings) -> list[Any]:
    messages: list[Message]
    if settings.wait == "full":
        messages = consumer.consume(settings.micro_batch_records, FULL_WAIT_S)
    else:
        first = consumer.poll(FULL_WAIT_S)
        messages = [first, *consumer.consume(settings.micro_batch_records - 1, 0)] if first is not None else []
    return [message for message in messages if message.error() is None]


if __name__ == "__main__":
    run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=RawSettings))
