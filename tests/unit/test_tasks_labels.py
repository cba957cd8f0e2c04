"""Tasks that end in labels, against plain transformers: text- and token-classification, zero-shot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from streamer.errors import ModelError
from tests.tiny_models import BERT, DEBERTA, DISTILBERT, ELECTRA, MODERNBERT, MPNET, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, counted_passes, model_of, near, outputs, reference

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

ENTITY_LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
NLI_LABELS = ("contradiction", "neutral", "entailment")
PAIRS = [*((text, "it was") for text in TEXTS[:4]), ("the film", ""), ("?", TEXTS[6])]


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, MODERNBERT, DEBERTA, MPNET])
def test_text_classification_is_what_transformers_says(architecture: str, tmp_path: Path) -> None:
    """Every label's probability of single texts and pairs, in the order of the scores."""
    path = tiny(tmp_path, architecture, "ForSequenceClassification")
    network, tokenizer = reference(path, "ForSequenceClassification")
    model = model_of(path, "text-classification", top_k=3)
    events: list[Event] = [*TEXTS, *PAIRS]
    for event, output in zip(events, outputs(model, events), strict=True):
        with torch.inference_mode():  # in a list: by itself, an empty pair counts as none
            logits = network(**tokenizer([event], truncation=True, return_tensors="pt")).logits[0]
        scores = logits.softmax(-1).numpy()
        order = np.argsort(-scores)
        assert [one["label"] for one in output["scores"]] == [network.config.id2label[i] for i in order.tolist()]
        assert [one["score"] for one in output["scores"]] == near(scores[order])
        assert (output["label"], output["score"]) == tuple(output["scores"][0].values())


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DISTILBERT, DEBERTA])
def test_entities_are_those_of_the_pipeline(architecture: str, tmp_path: Path) -> None:
    """Labels, characters and scores of transformers' pipeline, by each of its strategies."""
    path = tiny(tmp_path, architecture, "ForTokenClassification", labels=ENTITY_LABELS)
    network, tokenizer = reference(path, "ForTokenClassification")
    found = 0
    for strategy in ("none", "simple", "first", "average", "max"):
        theirs = pipeline("token-classification", network, tokenizer=tokenizer, aggregation_strategy=strategy)
        model = model_of(path, "token-classification", aggregation=strategy)
        for text, output in zip(TEXTS, outputs(model, [*TEXTS]), strict=True):
            expected = theirs(text)
            ours = output["entities"]
            key = "entity" if strategy == "none" else "entity_group"
            assert [(one["label"], one["start"], one["end"]) for one in ours] == [
                (one[key], one["start"], one["end"]) for one in expected
            ]
            assert [one["score"] for one in ours] == near([float(one["score"]) for one in expected])
            assert [one["text"] for one in ours] == [text[one["start"] : one["end"]] for one in ours]
            found += len(ours)
    assert found > 50


def test_labels_to_leave_out(tmp_path: Path) -> None:
    """By option; a text may have no entity at all."""
    path = tiny(tmp_path, BERT, "ForTokenClassification", labels=ENTITY_LABELS)
    everything = outputs(model_of(path, "token-classification", aggregation="none", ignore=[]), [*TEXTS])
    assert {one["label"] for output in everything for one in output["entities"]} >= {"O", "B-PER"}
    nothing = outputs(model_of(path, "token-classification", aggregation="none", ignore=ENTITY_LABELS), [*TEXTS])
    assert all(output == {"entities": []} for output in nothing)


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, ELECTRA])
def test_zero_shot_is_what_the_pipeline_says(architecture: str, tmp_path: Path) -> None:
    """Labels and scores of transformers' pipeline, also of each label by itself, with texts of differing labels in
    the same forward batches."""
    path = tiny(tmp_path, architecture, "ForSequenceClassification", labels=NLI_LABELS)
    network, tokenizer = reference(path, "ForSequenceClassification")
    theirs = pipeline("zero-shot-classification", network, tokenizer=tokenizer)
    labels = [["travel", "politics"], ["a complaint"], ["sport", "naïve", "東京", "film"]]
    params: list[dict[str, Any]] = [
        {"candidate_labels": labels[number % 3], "multi_label": number % 2 == 1} for number in range(len(TEXTS))
    ]
    params[2]["hypothesis_template"] = "it was {} ."
    model = model_of(path, "zero-shot-classification")
    events: list[Event] = [(text, None, own) for text, own in zip(TEXTS, params, strict=True)]
    for text, own, output in zip(TEXTS, params, outputs(model, events), strict=True):
        expected = theirs(text, **own)
        assert output["labels"] == expected["labels"]
        assert output["scores"] == near(expected["scores"])


def test_pairs_of_many_texts_share_passes(tmp_path: Path) -> None:
    """Texts of similar lengths with their labels run as one batch of rows."""
    model: Any = model_of(
        tiny(tmp_path, BERT, "ForSequenceClassification", labels=NLI_LABELS), "zero-shot-classification"
    )
    seen = counted_passes(model)
    outputs(model, [(f"the film was {n}", None, {"candidate_labels": ["good", "bad", "long"]}) for n in range(9)])
    assert (sum(seen), len(seen) <= 3) == (27, True)


def test_options_stand_in_for_params_of_zero_shot(tmp_path: Path) -> None:
    """Labels, template and multi_label of the pipeline hold for events that name none."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=NLI_LABELS)
    options: dict[str, Any] = {
        "candidate_labels": ["film", "travel"],
        "hypothesis_template": "it was {}",
        "multi_label": True,
    }
    model = model_of(path, "zero-shot-classification", **options)
    assert outputs(model, ["the music"]) == outputs(
        model_of(path, "zero-shot-classification"), [("the music", None, options)]
    )
    other = outputs(model, [("the music", None, {"multi_label": False})])
    assert sum(other[0]["scores"]) == near(1.0)


def test_zero_shot_needs_a_label_of_entailment(tmp_path: Path) -> None:
    """Any other classifier would give scores that mean nothing."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification")
    with pytest.raises(ModelError, match="entail"):
        model_of(path, "zero-shot-classification")


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, DEBERTA])
def test_rerank_is_what_the_cross_encoder_says(architecture: str, tmp_path: Path) -> None:
    """The sigmoid of the one logit of each pair, of text_pair and of candidates."""
    path = tiny(tmp_path, architecture, "ForSequenceClassification", labels=("relevant",))
    network, tokenizer = reference(path, "ForSequenceClassification")

    def logit(text: str, other: str) -> float:
        with torch.inference_mode():
            return float(network(**tokenizer([(text, other)], truncation=True, return_tensors="pt")).logits[0, 0])

    model = model_of(path, "rerank")
    bare = model_of(path, "rerank", activation="none")
    candidates: list[Event] = [(text, None, {"candidates": TEXTS[:3]}) for text in TEXTS]
    for text, output in zip(TEXTS, outputs(model, candidates), strict=True):
        expected = torch.tensor([logit(text, other) for other in TEXTS[:3]]).sigmoid().numpy()
        assert output["scores"] == near(expected)
        assert output["ranking"] == np.argsort(-expected).tolist()
    for event, output in zip(PAIRS, outputs(bare, PAIRS), strict=True):
        assert output == {"score": near(logit(event[0], event[1] or ""))}


def test_rerank_reads_the_activation_that_the_files_name(tmp_path: Path) -> None:
    """sentence-transformers notes it in config.json; what we lack is refused."""
    path = tiny(
        tmp_path,
        BERT,
        "ForSequenceClassification",
        labels=("relevant",),
        sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"},
    )
    assert outputs(model_of(path, "rerank"), PAIRS) == outputs(model_of(path, "rerank", activation="none"), PAIRS)
    config = (path / "config.json").read_text()
    (path / "config.json").write_text(config.replace("linear.Identity", "activation.PReLU"))
    with pytest.raises(ModelError, match="PReLU"):
        model_of(path, "rerank")


def test_rerank_needs_one_output(tmp_path: Path) -> None:
    """A classifier of three classes ranks nothing."""
    with pytest.raises(ModelError, match="one output"):
        model_of(tiny(tmp_path, BERT, "ForSequenceClassification"), "rerank")
