"""The shortest loop that reads the headers of a topic: `python -m streamer.bench.baselines.header_loop SETTINGS.json`.

Same client properties and batches as `streamer dlq`, and nothing else: no filter, no end but a count of records.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition

from streamer.bench.baselines.settings import HeaderSettings


def run(settings: HeaderSettings) -> None:
    """Consume and read the headers, until `records` are done."""
    consumer = Consumer(settings.consumer)
    consumer.assign([TopicPartition(settings.topic, partition, 0) for partition in range(settings.partitions)])
    done = 0
    while done < settings.records:
        for message in consumer.consume(settings.batch_records, 0.1):
            if message.error() is None:
                message.headers()
                done += 1
    consumer.close()


if __name__ == "__main__":
    run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=HeaderSettings))
