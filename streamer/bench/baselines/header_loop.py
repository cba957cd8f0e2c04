"""The shortest loop that reads the headers of a topic: `python -m streamer.bench.baselines.header_loop SETTINGS.json`.

Same client properties and batches as `streamer dlq`, and nothing else: no filter, no end but a count of records.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition


def run(consumer: dict[str, Any], topic: str, partitions: int, records: int, batch_records: int) -> None:
    """Consume and read the headers, `batch_records` at a time, until `records` are done."""
    client = Consumer(consumer)
    client.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    done = 0
    while done < records:
        for message in client.consume(batch_records, 0.1):
            if message.error() is None:
                message.headers()
                done += 1
    client.close()


if __name__ == "__main__":
    run(**json.loads(Path(sys.argv[1]).read_bytes()))
