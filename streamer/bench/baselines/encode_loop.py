"""The loop that people write: `python -m streamer.bench.baselines.encode_loop SETTINGS.json`.

Consume a batch of records, encode their texts with sentence-transformers in fp32 in order of arrival, produce the
vectors; offsets are committed automatically, nothing is transactional.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import torch
from confluent_kafka import Consumer, Producer
from sentence_transformers import SentenceTransformer

from streamer.bench.baselines.settings import EncodeSettings


def run(settings: EncodeSettings) -> None:
    """Until `records` are done."""
    torch.set_num_threads(settings.threads)
    model = SentenceTransformer(settings.model, device="cpu")
    consumer, producer = Consumer(settings.consumer), Producer(settings.producer)
    consumer.subscribe([settings.input])
    done = 0
    while done < settings.records:
        messages = [message for message in consumer.consume(settings.batch_records, 1.0) if message.error() is None]
        if not messages:
            continue
        events = [json.loads(message.value() or b"") for message in messages]
        vectors = model.encode(
            [event["text"] for event in events], batch_size=settings.batch_records, normalize_embeddings=True
        )
        for message, event, vector in zip(messages, events, vectors, strict=True):
            value = json.dumps({"id": event["id"], "embedding": vector.tolist()}).encode()
            producer.produce(settings.output, value, message.key())
        producer.flush()
        done += len(messages)
    consumer.close()


if __name__ == "__main__":
    run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=EncodeSettings))
