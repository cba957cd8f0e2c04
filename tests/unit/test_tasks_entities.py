"""token-classification against transformers' pipeline, and where that is wrong, against the words of the text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import pipeline

from streamer.errors import ModelError
from streamer.inference.tasks.labels import entities, tags
from streamer.inference.tasks.spans import continues_word, visible
from tests.tiny_models import BERT, DEBERTA, DISTILBERT, MODERNBERT, ROBERTA, XLM_ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, model_of, near, outputs, reference

# DeBERTa compiles parts of itself by torch.jit at import.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
    pytest.mark.filterwarnings("ignore:Tokenizer does not support real words"),
]

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
STRATEGIES = ("none", "simple", "first", "average", "max")
NASTY = [
    "  Angela  Merkel ",
    "東京 Paris",
    "\tIn\nZürich,\r\nParis; (Tim)",
    "👩‍👩‍👧 Cook 🙂🙂",
    "naïve café",
    "İstanbul ŞİŞLİ ﬁlm ㍻ ½",
    "Tim\u00a0Cook\u2003Paris",
    "don't ... Jean-Baptiste's",
    "\u0000a\ufeffb\u200bc",
]
"""Spaces of all kinds, characters of several bytes behind spaces and at the start, marks that combine, and letters
that normalisers make longer or shorter."""


def edited(path: Path, change: Callable[[Any], None]) -> Path:
    """The model with another tokenizer.json."""
    file = path / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    change(tokenizer)
    file.write_text(json.dumps(tokenizer))
    return path


def offsets_with_spaces(tokenizer: Any) -> None:
    """As those of GPT-2, ModernBERT and Llama."""
    tokenizer["post_processor"]["trim_offsets"] = False


def space_before_the_text(tokenizer: Any) -> None:
    """As `add_prefix_space`."""
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    tokenizer["post_processor"]["trim_offsets"] = False


def space_as_a_normaliser(tokenizer: Any) -> None:
    """As Llama's first tokenizers, which split no words at all."""
    tokenizer["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    tokenizer["pre_tokenizer"] = None


def other_lengths(tokenizer: Any) -> None:
    """Letters that become several, and several that become one."""
    tokenizer["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "NFD"}, {"type": "StripAccents"}],
    }


VARIANTS: list[tuple[str, Callable[[Any], None]]] = [
    (BERT, lambda _: None),
    (BERT, other_lengths),
    (ROBERTA, lambda _: None),
    (ROBERTA, offsets_with_spaces),
    (MODERNBERT, space_before_the_text),
    (MODERNBERT, other_lengths),
    (DEBERTA, lambda _: None),
    (XLM_ROBERTA, other_lengths),
    (XLM_ROBERTA, space_as_a_normaliser),
]
each_variant = pytest.mark.parametrize(("architecture", "change"), VARIANTS)


def spots(found: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Labels and characters of our entities."""
    return [(one["label"], one["start"], one["end"]) for one in found]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("architecture", "change"),
    [(one, lambda _: None) for one in (BERT, ROBERTA, DISTILBERT, DEBERTA, MODERNBERT)]
    + [(one, offsets_with_spaces) for one in (ROBERTA, MODERNBERT)],
)
def test_entities_are_those_of_the_pipeline(
    architecture: str, change: Callable[[Any], None], strategy: str, tmp_path: Path
) -> None:
    """Labels, characters and scores, but for the spaces: the pipeline counts those before a word to the entity where
    the tokenizer does, and gives entities of nothing but a space."""
    path = edited(tiny(tmp_path, architecture, "ForTokenClassification", labels=LABELS), change)
    network, tokenizer = reference(path, "ForTokenClassification")
    theirs: Any = pipeline("token-classification", network, tokenizer=tokenizer, aggregation_strategy=strategy)
    model = model_of(path, "token-classification", aggregation=strategy)
    # Of the characters behind a space that are several tokens, words of the pipeline are nonsense.
    texts = [text for text in TEXTS if text.isascii() or strategy in ("none", "simple") or architecture == BERT]
    key = "entity" if strategy == "none" else "entity_group"
    found = 0
    for text, output in zip(texts, outputs(model, [*texts]), strict=True):
        expected = []
        for one in theirs(text):
            start, end = visible(text, one["start"], one["end"], one["word"])
            if start < end:
                expected.append((one[key], start, end, float(one["score"])))
        assert spots(output["entities"]) == [own[:3] for own in expected]
        assert [one["score"] for one in output["entities"]] == near([own[3] for own in expected])
        found += len(expected)
    assert found > 5


@each_variant
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_entity_has_a_space_at_its_ends(
    strategy: str, architecture: str, change: Callable[[Any], None], tmp_path: Path
) -> None:
    """Nor lies outside of the text, whatever the tokenizer counts to a token."""
    path = edited(tiny(tmp_path, architecture, "ForTokenClassification", labels=LABELS, max_tokens=128), change)
    model = model_of(path, "token-classification", aggregation=strategy, ignore=[])
    for text, output in zip(NASTY, outputs(model, [*NASTY]), strict=True):
        for one in output["entities"]:
            assert 0 <= one["start"] < one["end"] <= len(text)
            assert one["text"] == text[one["start"] : one["end"]] == one["text"].strip() != ""
        assert output["entities"]


@each_variant
@pytest.mark.parametrize("strategy", ["first", "average", "max"])
def test_words_are_whole(strategy: str, architecture: str, change: Callable[[Any], None], tmp_path: Path) -> None:
    """No word has two labels, none of its characters is in two entities, and all of it is in its own."""
    path = edited(tiny(tmp_path, architecture, "ForTokenClassification", labels=LABELS, max_tokens=128), change)
    model = model_of(path, "token-classification", aggregation=strategy, ignore=[])
    for text, output in zip(NASTY, outputs(model, [*NASTY]), strict=True):
        found = output["entities"]
        assert all(one["end"] <= other["start"] for one, other in pairwise(found))
        if architecture == BERT:  # it splits words at punctuation too
            continue
        for word in re.finditer(r"\S+", text):
            touching = [one for one in found if one["start"] < word.end() and word.start() < one["end"]]
            assert len(touching) <= 1
            for one in touching:
                letters = text[max(one["start"], word.start()) : min(one["end"], word.end())]
                # Characters that a normaliser takes away, as accents, may stand at the ends of a word.
                assert change is other_lengths or letters == word[0]


def test_the_first_token_of_a_word_speaks_for_it(tmp_path: Path) -> None:
    """Where a character behind a space is several tokens, each of which transformers' pipeline takes for a word."""
    path = edited(tiny(tmp_path, ROBERTA, "ForTokenClassification", labels=LABELS), offsets_with_spaces)
    network, tokenizer = reference(path, "ForTokenClassification")
    text = "in 東京, 映画 🙂🙂"
    inputs = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        scores = network(**inputs).logits[0].softmax(-1).numpy()
    expected = []
    for word in re.finditer(r"\S+", text):
        tokens = [place for place, (start, end) in enumerate(offsets) if word.start() < end and start < word.end()]
        letters = [place for place in tokens if text[slice(*offsets[place])].strip()]
        expected.append((LABELS[scores[letters[0]].argmax()], word.start(), word.end()))
    model = model_of(path, "token-classification", aggregation="first", ignore=[])
    found = spots(outputs(model, [text])[0]["entities"])
    assert {name for name, *_ in found} <= {label.split("-")[-1] for label in LABELS}
    for label, start, end in expected:
        assert any(name == label.split("-")[-1] and a <= start and end <= b for name, a, b in found)


def test_labels_to_leave_out(tmp_path: Path) -> None:
    """By option; a text may have no entity at all."""
    path = tiny(tmp_path, BERT, "ForTokenClassification", labels=LABELS)
    everything = outputs(model_of(path, "token-classification", aggregation="none", ignore=[]), [*TEXTS])
    assert {one["label"] for output in everything for one in output["entities"]} >= {"O", "B-PER"}
    nothing = outputs(model_of(path, "token-classification", aggregation="none", ignore=LABELS), [*TEXTS])
    assert all(output == {"entities": []} for output in nothing)


def test_labels_without_names_are_entities_all(tmp_path: Path) -> None:
    """As the pipeline has it: none of them is O."""
    path = tiny(tmp_path, BERT, "ForTokenClassification", labels=("LABEL_0", "LABEL_1", ""))
    network, tokenizer = reference(path, "ForTokenClassification")
    theirs: Any = pipeline("token-classification", network, tokenizer=tokenizer, aggregation_strategy="simple")
    for text, output in zip(TEXTS, outputs(model_of(path, "token-classification"), [*TEXTS]), strict=True):
        assert spots(output["entities"]) == [(one["entity_group"], one["start"], one["end"]) for one in theirs(text)]


def test_classes_without_a_number_are_refused(tmp_path: Path) -> None:
    """Nothing says which name the output has."""
    path = tiny(tmp_path, BERT, "ForTokenClassification", labels=LABELS)
    config = json.loads((path / "config.json").read_text())
    config["id2label"]["7"] = config["id2label"].pop("2")
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"config\.json.*id2label.*class 2"):
        model_of(path, "token-classification")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("B-PER I-PER O B-PER B-PER", ["PER 0 1", "O 2 2", "PER 3 3", "PER 4 4"]),
        ("I-PER I-LOC I-LOC O O MISC MISC", ["PER 0 0", "LOC 1 2", "O 3 4", "MISC 5 6"]),
        # BIOES and BILOU: the end and the single token are parts of the entity, and what follows is another.
        ("B-PER I-PER E-PER I-PER S-PER S-PER", ["PER 0 2", "PER 3 3", "PER 4 4", "PER 5 5"]),
        ("B-PER L-PER U-PER I-PER", ["PER 0 1", "PER 2 2", "PER 3 3"]),
        # A name with a dash is none of a scheme.
        ("E-MAIL E-MAIL PHONE DATE-TIME", ["E-MAIL 0 1", "PHONE 2 2", "DATE-TIME 3 3"]),
        ("E-MAIL O", ["E-MAIL 0 0", "O 1 1"]),
        ("B-E-MAIL I-E-MAIL I-", ["E-MAIL 0 1", " 2 2"]),
    ],
)
def test_what_labels_say(row: str, expected: list[str]) -> None:
    """Of one row of tokens, with the labels that are in it."""
    labels = row.split(" ")
    found = tags(labels)
    assert [f"{found[first].name} {first} {last}" for first, last in entities(found)] == expected


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("ab東🙂 \t\n\u00a0e\u0301"), max_size=12), st.data())
def test_words_are_what_spaces_separate(text: str, data: st.DataObject) -> None:
    """However a tokenizer cuts the text, with tokens of no letters among them."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    tokens = [visible(text, start, end) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    inner = continues_word(text, tokens)
    own = [(span, goes) for span, goes in zip(tokens, inner, strict=True) if span[0] < span[1]]
    for ((_, end), _), ((start, _), goes) in pairwise(own):
        assert goes == (not re.search(r"\s", text[end:start]))
    assert not own or not own[0][1]


def test_entities_of_windows_are_words_too(tmp_path: Path) -> None:
    """A word whose tokens lie in two windows is one."""
    path = edited(tiny(tmp_path, ROBERTA, "ForTokenClassification", labels=LABELS), offsets_with_spaces)
    model = model_of(path, "token-classification", on_overflow="window", aggregation="average", ignore=[])
    text = " ".join("Zürichfilmmusik" * (1 + number % 3) for number in range(20))
    (output,) = outputs(model, [text])
    assert output["windows"] > 2
    borders = {0, len(text), *(match.start() for match in re.finditer(r"\s", text))}
    assert all(one["start"] in borders or one["start"] - 1 in borders for one in output["entities"])
    assert all(one["end"] in borders for one in output["entities"])
    assert np.mean([one["score"] for one in output["entities"]]) <= 1
