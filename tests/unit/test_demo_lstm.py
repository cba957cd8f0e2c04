"""The worked example of a model of one's own: a small LSTM, trained by a script, served beside the transformer."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from streamer import demo
from streamer.core.record import Answer
from streamer.inference.channel import Done, Started
from streamer.inference.model import Encoded, Model
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.worker.forwarder import Computation, Forwarder
from tools import train_lstm

TRANSFORMER = Path(demo.__file__).parent / "models" / "sentiment-micro"
LSTM = "python:streamer.demo.lstm:LstmSentiment"


@pytest.fixture(scope="module")
def served() -> Model:
    return load(WorkerSpec("p", "text-classification", LSTM))


def outputs(model: Model, texts: list[str]) -> list[dict[str, Any]]:
    """What a worker answers, in order."""
    sent: list[Started | Done] = []
    encoded = [one for one in model.encode(texts, None, None) if isinstance(one, Encoded)]
    Forwarder(model, sent.append).run([Computation(number, one) for number, one in enumerate(encoded)])
    found = {
        number: msgspec.json.decode(output or b"null")
        for done in sent
        if isinstance(done, Done)
        for number, output in zip(done.numbers, done.outputs, strict=True)
    }
    return [found[number] for number in range(len(texts))]


def test_it_is_served_as_the_transformer_is(served: Model) -> None:
    """Both answer the same texts with the same fields, and agree on most."""
    texts = list(dict.fromkeys(msgspec.json.decode(value)["text"] for _, value in demo.events()))[:200]
    own = outputs(served, texts)
    other = outputs(load(WorkerSpec("p", "text-classification", str(TRANSFORMER), backend="torch")), texts)
    assert all(one.keys() == two.keys() == {"label", "score"} for one, two in zip(own, other, strict=True))
    assert sum(one["label"] == two["label"] for one, two in zip(own, other, strict=True)) > 0.75 * len(texts)


def test_an_answer_does_not_hang_on_its_neighbours(served: Model) -> None:
    """Alone or beside a much longer text, empty or not: the same score."""
    texts = ["love it", "", "what a waste of time and money, I hated every minute of it, never again! " * 3]
    together = served.forward([one for one in served.encode(texts, None, None) if isinstance(one, Encoded)])
    for text, both in zip(texts, together, strict=True):
        (encoded,) = served.encode([text], None, None)
        assert isinstance(encoded, Encoded)
        (alone,) = served.forward([encoded])
        assert isinstance(alone, Answer) and isinstance(both, Answer)
        one, two = msgspec.json.decode(alone.output), msgspec.json.decode(both.output)
        assert one["label"] == two["label"] and abs(one["score"] - two["score"]) < 1e-6


def test_its_answers_are_shared(served: Model) -> None:
    """It says which files decide them: cache keys tell one training from another."""
    assert served.card.shared and len(bytes.fromhex(served.card.revision)) == 32


@pytest.mark.slow
def test_the_script_trains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the epochs on half the tweets already tells good from bad in the rest."""
    monkeypatch.setattr(train_lstm, "EPOCHS", 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = train_lstm.read()
        random.Random(2).shuffle(rows)
        _, balanced = train_lstm.accuracy(train_lstm.train(rows[:1350]), rows[1350:])
        assert balanced > 0.55  # 0.5 knows nothing, give or take 0.014
    finally:
        torch.set_num_threads(threads)
