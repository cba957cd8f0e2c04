"""Trains the LSTM beside the demo's transformer: `python -m tools.train_lstm --out FILE`.

On the tweets that the demo ships with people's scores, a fifth of them held out. One thread, fixed seeds: seconds.
"""

from __future__ import annotations

import argparse
import logging
import random
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file

from streamer import demo
from streamer.demo.lstm import Lstm, read_tokenizer

SEED = 1
EPOCHS = 8
BATCH = 32
LEARNING_RATE = 4e-3
HELD_OUT = 0.2
STEEPNESS = 1.5  # as of the demo's transformer: a score s is learned as the probability sigmoid(STEEPNESS * s)
CLEAR_SCORE = 1.0


def read() -> list[tuple[list[int], float]]:
    """Token ids and human score of each distinct tweet."""
    tweets = {}
    for _, value in demo.events():
        event = msgspec.json.decode(value)
        if "human_score" in event.get("metadata", {}):
            tweets[event["text"]] = float(event["metadata"]["human_score"])
    encodings = read_tokenizer().encode_batch(list(tweets))
    return [(encoding.ids, score) for encoding, score in zip(encodings, tweets.values(), strict=True)]


def train(rows: list[tuple[list[int], float]]) -> Lstm:
    """Fit to the scores."""
    torch.manual_seed(SEED)
    network = Lstm(read_tokenizer().get_vocab_size())
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    order = random.Random(SEED)
    for _ in range(EPOCHS):
        order.shuffle(rows)
        for first in range(0, len(rows), BATCH):
            batch = rows[first : first + BATCH]
            targets = torch.sigmoid(STEEPNESS * torch.tensor([score for _, score in batch]))
            logits = network([ids for ids, _ in batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: Lstm, rows: list[tuple[list[int], float]]) -> tuple[float, float]:
    """How often the label is the sign of the human score, of texts that people were clear about; and the mean of that
    among the positive and the negative ones, which is 0.5 for a network that knows nothing."""
    clear = [row for row in rows if abs(row[1]) >= CLEAR_SCORE]
    with torch.inference_mode():
        labels = (network([ids for ids, _ in clear]) >= 0).tolist()
    hits = {
        kind: [label == kind for label, (_, score) in zip(labels, clear, strict=True) if (score > 0) == kind]
        for kind in (True, False)
    }
    shares = [sum(own) / len(own) for own in hits.values()]
    return sum(map(sum, hits.values())) / len(clear), sum(shares) / 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.train_lstm", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write the weights to")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    rows = read()
    random.Random(SEED).shuffle(rows)
    held_out = int(HELD_OUT * len(rows))
    network = train(rows[held_out:])
    logging.info("clear held-out tweets: accuracy %.3f, balanced %.3f", *accuracy(network, rows[:held_out]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weights.half().contiguous() for name, weights in network.state_dict().items()}, arguments.out)


if __name__ == "__main__":
    main()
