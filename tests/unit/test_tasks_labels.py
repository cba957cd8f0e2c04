"""Tasks that end in labels, against plain transformers: text-classification, zero-shot and rerank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import pipeline

from streamer.errors import Code, DataFailure, ModelError
from tests.tiny_models import BERT, DEBERTA, ELECTRA, MODERNBERT, MPNET, ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, counted_passes, model_of, near, outcomes, outputs, reference

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

NLI_LABELS = ("contradiction", "neutral", "entailment")
LONG = TEXTS[6]
PAIRS = [*((text, "it was") for text in TEXTS[:4]), ("the film", ""), ("?", LONG), (LONG, "?"), (LONG, LONG)]


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


@pytest.mark.parametrize("blank", [" " * 900, "m" * 900 + " "])
def test_pairs_with_few_tokens_at_first_are_read_on(blank: str, tmp_path: Path) -> None:
    """However many characters stand before what the model reads: spaces, or a word that is one unknown token."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification")
    network, tokenizer = reference(path, "ForSequenceClassification")
    events: list[Event] = [(blank + TEXTS[0], LONG), (LONG, blank + TEXTS[0]), (blank + LONG, blank + TEXTS[0])]
    for event, output in zip(events, outputs(model_of(path, "text-classification"), events), strict=True):
        with torch.inference_mode():
            logits = network(**tokenizer([event], truncation=True, return_tensors="pt")).logits[0]
        assert output["score"] == near(float(logits.softmax(-1).max()))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (("spam",), None),
        (("stars",), "regression"),
        (("width", "height", "depth"), "regression"),
        (("sport", "film", "travel"), "multi_label_classification"),
        (("sport", "film", "travel"), "single_label_classification"),
        (("LABEL_0", "LABEL_1"), None),
        (("good", "good", "bad", ""), None),
    ],
)
def test_scores_are_those_of_the_pipeline(labels: tuple[str, ...], problem: str | None, tmp_path: Path) -> None:
    """Probabilities of all or of each, or the bare numbers of a regression, by problem type and number of classes; of
    more labels than there are all."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=labels, problem_type=problem)
    network, tokenizer = reference(path, "ForSequenceClassification")
    theirs = pipeline("text-classification", network, tokenizer=tokenizer)
    alone = model_of(path, "text-classification")
    all_of_them = model_of(path, "text-classification", top_k=9)
    pairs = zip(outputs(alone, [*TEXTS]), outputs(all_of_them, [*TEXTS]), strict=True)
    for text, (output, ranked) in zip(TEXTS, pairs, strict=True):
        expected = theirs(text, top_k=None, truncation=True)
        found = ranked.get("scores", [output])
        assert [one["label"] for one in found] == [one["label"] for one in expected]
        assert [one["score"] for one in found] == near([one["score"] for one in expected])
        assert (output["label"], output["score"]) == (found[0]["label"], found[0]["score"])


def test_labels_by_themselves_on_request(tmp_path: Path) -> None:
    """As the pipeline with `function_to_apply`; one class has no share of several."""
    path = tiny(tmp_path / "three", BERT, "ForSequenceClassification")
    network, tokenizer = reference(path, "ForSequenceClassification")
    theirs = pipeline("text-classification", network, tokenizer=tokenizer, function_to_apply="sigmoid")
    for text, output in zip(
        TEXTS, outputs(model_of(path, "text-classification", multi_label=True), TEXTS), strict=True
    ):
        (expected,) = theirs(text, top_k=1, truncation=True)
        assert output == {"label": expected["label"], "score": near(expected["score"])}
    path = tiny(tmp_path / "one", BERT, "ForSequenceClassification", labels=("spam",))
    with pytest.raises(ModelError, match=r"multi_label = false.*config\.json"):
        model_of(path, "text-classification", multi_label=False)


def test_equal_scores_are_in_the_order_of_the_classes(tmp_path: Path) -> None:
    """As the pipeline ranks them."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=("z", "b", "a"))
    weights = load_file(path / "model.safetensors")
    for name in weights:
        if name.startswith("classifier"):
            weights[name] = torch.zeros_like(weights[name])
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    (output,) = outputs(model_of(path, "text-classification", top_k=3), [TEXTS[0]])
    assert [one["label"] for one in output["scores"]] == ["z", "b", "a"]


@pytest.mark.parametrize("names", [{"0": "a", "2": "b"}, {"1": "a", "2": "b"}])
def test_classes_without_a_name_are_refused(names: dict[str, str], tmp_path: Path) -> None:
    """By the file and the field."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=("a", "b"))
    edit(path, id2label=names)
    with pytest.raises(ModelError, match=r"config\.json of the model: id2label names 2 classes, but not class [01]"):
        model_of(path, "text-classification")


def edit(path: Path, **fields: Any) -> None:
    """Set fields of config.json."""
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(content | fields))


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


@pytest.mark.parametrize(
    "labels",
    [
        ("ENTAILMENT", "NEUTRAL", "CONTRADICTION"),
        ("Contradiction", "Entailment", "Neutral"),
        ("entailment", "not_entailment"),
        ("not_entailment", "entailment"),
        ("entails", "other", "contradicts"),
    ],
)
def test_classes_of_inference_are_told_by_their_names(labels: tuple[str, ...], tmp_path: Path) -> None:
    """However they are written: what is no entailment is the opposite of two classes."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=labels)
    network, tokenizer = reference(path, "ForSequenceClassification")
    theirs = pipeline("zero-shot-classification", network, tokenizer=tokenizer)
    own = {"candidate_labels": ["film", "travel"], "multi_label": True}
    model = model_of(path, "zero-shot-classification")
    for text, output in zip(TEXTS, outputs(model, [(text, None, own) for text in TEXTS]), strict=True):
        expected = theirs(text, **own)
        assert output == {"labels": expected["labels"], "scores": near(expected["scores"])}


def test_contradiction_is_the_class_of_that_name(tmp_path: Path) -> None:
    """Wherever it stands: transformers' pipeline takes the first class, here that of neither."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=("neutral", "entailment", "contradiction"))
    network, tokenizer = reference(path, "ForSequenceClassification")
    with torch.inference_mode():
        logits = network(**tokenizer([(TEXTS[0], "This example is film.")], return_tensors="pt")).logits[0]
    (output,) = outputs(model_of(path, "zero-shot-classification"), [(TEXTS[0], None, {"candidate_labels": ["film"]})])
    assert output["scores"] == near([float(logits[[2, 1]].softmax(0)[1])])


def test_a_label_s_sentence_is_never_cut(tmp_path: Path) -> None:
    """The text is, as the pipeline does; a sentence that leaves it no room is that event's failure."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=NLI_LABELS)
    network, tokenizer = reference(path, "ForSequenceClassification")
    theirs = pipeline("zero-shot-classification", network, tokenizer=tokenizer)
    long = ["why would anyone pay forty euros for a cable that breaks within a week", "film"]
    model = model_of(path, "zero-shot-classification")
    events: list[Event] = [(text, None, {"candidate_labels": long}) for text in (LONG, TEXTS[0])]
    events.append((LONG, None, {"candidate_labels": ["film", LONG]}))
    first, second, failure = outcomes(model, events)
    for text, output in ((LONG, first), (TEXTS[0], second)):
        expected = theirs(text, candidate_labels=long)
        assert isinstance(output, dict)
        assert output == {"labels": expected["labels"], "scores": near(expected["scores"])}
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.INFER_TOO_LONG


@pytest.mark.parametrize(
    ("labels", "changes", "field"),
    [
        (("negative", "neutral", "positive"), {}, "label2id"),
        (("LABEL_0", "LABEL_1"), {}, "label2id"),
        (("entailment",), {}, "label2id"),
        (NLI_LABELS, {"label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}}, "label2id"),
        (NLI_LABELS, {"label2id": {"entailment": 7, "contradiction": 0, "neutral": 1}}, "label2id"),
        (NLI_LABELS, {"label2id": {"entailment": 0, "contradiction": 1, "neutral": 2}}, "id2label"),
    ],
)
def test_zero_shot_needs_a_label_of_entailment(
    labels: tuple[str, ...], changes: dict[str, Any], field: str, tmp_path: Path
) -> None:
    """Any other classifier would give scores that mean nothing, and so would two maps that disagree."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=labels)
    edit(path, **changes)
    with pytest.raises(ModelError, match=rf"config\.json.*{field}"):
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
