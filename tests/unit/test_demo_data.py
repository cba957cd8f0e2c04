"""The demo's data and model: what they hold, where they come from, how good the model is."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from streamer import demo
from streamer.core.events.codec import Codec
from streamer.core.record import Segment, Skipped, TextEvent
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord

MEASURED_ACCURACY = 0.899
MARGIN = 0.02
CLEAR_SCORE = 1.0
MODEL_FILES = {
    "LICENSE.vaderSentiment",
    "README.md",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@functools.cache
def bodies() -> list[dict[str, Any]]:
    return [msgspec.json.decode(value) for _, value in demo.events()]


@functools.cache
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(demo.model_directory(), local_files_only=True)


@functools.cache
def model() -> Any:
    return AutoModelForSequenceClassification.from_pretrained(demo.model_directory(), local_files_only=True).eval()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch, which for so small a model is faster than several on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def decode(value: bytes | None, headers: list[tuple[str, bytes]]) -> object:
    """Return what the codec makes of a record: an event, or the outcome it ends with."""
    segment = Segment("tweets", 0, 0, [FakeRecord(value, headers=list(headers))])
    Codec("demo").decode(segment)
    return segment.events[0] or segment.outcomes[0]


def test_there_are_3000_events_with_ids_of_their_own() -> None:
    """Every event has another id, a text and a human score from -4 to 4."""
    assert len({body["id"] for body in bodies()}) == len(bodies()) == 3_000
    assert all(-4 <= body["metadata"]["human_score"] <= 4 for body in bodies())


def test_every_event_is_valid() -> None:
    """The codec takes every event as it is."""
    assert all(isinstance(decode(value, []), TextEvent) for _, value in demo.events())


def test_a_tenth_of_the_events_repeat_a_text() -> None:
    """300 events repeat an earlier text, some texts more than once, so that a cache has something to answer."""
    counts = Counter(body["text"] for body in bodies())
    assert len(bodies()) - len(counts) == 300
    assert max(counts.values()) >= 3


def test_keys_are_those_of_about_200_users() -> None:
    """The keys are few and repeat, and none has more than a small share: partitions get like shares."""
    counts = Counter(key for key, _ in demo.events())
    assert 190 <= len(counts) <= demo.USERS
    assert max(counts.values()) < 0.02 * len(bodies())


def test_events_come_in_the_same_order_every_time() -> None:
    """Two readings give the same keys and values."""
    assert list(demo.events()) == list(demo.events())


def test_poison_names_are_unique() -> None:
    """No two poison records have the same name, and each says why it is one."""
    poison = demo.poison()
    assert len({one.name for one in poison}) == len(poison) >= 12
    assert all(one.why for one in poison)


@pytest.mark.parametrize("poison", demo.poison(), ids=lambda poison: poison.name)
def test_poison_ends_as_it_says(poison: demo.Poison) -> None:
    """Each poison record gets the code it names from the codec; a param's name is for the task to refuse, later."""
    outcome = decode(poison.value, poison.headers)
    if poison.expect == "skipped":
        assert isinstance(outcome, Skipped)
    elif poison.expect == Code.VALIDATE_PARAMS:
        assert isinstance(outcome, TextEvent)
        assert outcome.params
    else:
        assert isinstance(outcome, DataFailure)
        assert outcome.code == poison.expect


def test_the_model_has_its_files_and_no_others() -> None:
    """The directory holds weights in safetensors, configuration, tokenizer, model card and licence, under 2.5 MB."""
    files = list(demo.model_directory().iterdir())
    assert {file.name for file in files} == MODEL_FILES
    assert sum(file.stat().st_size for file in files) < 2_500_000


@pytest.mark.usefixtures("one_thread")
def test_the_model_reaches_its_accuracy_on_the_tweets() -> None:
    """Loaded offline, it gives the sign of the human score for the share of clear tweets that its card states."""
    clear = {body["text"]: body["metadata"]["human_score"] for body in bodies()}
    clear = {text: score for text, score in clear.items() if abs(score) >= CLEAR_SCORE}
    texts = sorted(clear, key=len)
    right = 0
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            batch = texts[start : start + 64]
            labels = model()(**tokenizer()(batch, padding=True, return_tensors="pt")).logits.argmax(dim=1)
            for text, label in zip(batch, labels.tolist(), strict=True):
                right += model().config.id2label[label] == ("positive" if clear[text] > 0 else "negative")
    assert right / len(texts) >= MEASURED_ACCURACY - MARGIN


def test_the_weights_are_read_in_single_precision() -> None:
    """Half-precision weights on disk become float32, which every CPU computes well."""
    assert next(model().parameters()).dtype is torch.float32


def test_the_tokenizer_does_not_pad_by_itself() -> None:
    """A short text stays short, and one that is too long is cut at the model's longest input."""
    assert len(tokenizer()("fine")["input_ids"]) == 3
    assert tokenizer().backend_tokenizer.padding is None
    longest = model().config.max_position_embeddings
    assert len(tokenizer()("so good " * 200, truncation=True)["input_ids"]) == longest


def test_origins_and_licences_lie_beside_data_and_model() -> None:
    """Data and model carry the MIT licence of their source and name it."""
    data = demo.model_directory().parents[1] / "data"
    for licence in (data / "LICENSE.vaderSentiment", demo.model_directory() / "LICENSE.vaderSentiment"):
        assert "Copyright (c) 2016 C.J. Hutto" in licence.read_text()
    for notice in (data / "NOTICE.md", demo.model_directory() / "README.md"):
        assert "vaderSentiment" in notice.read_text()
