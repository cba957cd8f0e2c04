"""The loop that people write: `python -m streamer.bench.baselines.encode_loop SETTINGS.json`.

Consume a batch of records, encode their texts with sentence-transformers in fp32 in order of arrival, produce the
vectors; offsets are committed automatically, nothing is transactional.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from confluent_kafka import Consumer, Producer
from sentence_transformers import SentenceTransformer


def run(
    consumer: dict[str, Any],
    producer: dict[str, Any],
    source: str,
    target: str,
    path: str,
    threads: int,
    batch_records: int,
    records: int,
) -> None:
    """From the topic `source` to `target`, until `records` are done, a multiple of `batch_records`."""
    torch.set_num_threads(threads)
    model = SentenceTransformer(path, device="cpu")
    reader, writer = Consumer(consumer), Producer(producer)
    reader.subscribe([source])
    done = 0
    while done < records:
        messages = [message for message in reader.consume(batch_records, 1.0) if message.error() is None]
        if not messages:
            continue
        events = [json.loads(message.value() or b"") for message in messages]
        vectors = model.encode([event["text"] for event in events], batch_size=batch_records, normalize_embeddings=True)
        for message, event, vector in zip(messages, events, vectors, strict=True):
            value = json.dumps({"id": event["id"], "embedding": vector.tolist()}).encode()
            writer.produce(target, value, message.key())
        writer.flush()
        done += len(messages)
    reader.close()


if __name__ == "__main__":
    run(**json.loads(Path(sys.argv[1]).read_bytes()))
