"""`special_tokens_in_text`: what becomes of letters such as `[SEP]` in an event, in each task of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from streamer.errors import ModelError
from streamer.inference.models.tokenizer import TextTokenizer
from tests.tiny_models import BERT, ROBERTA, XLM_ROBERTA, tiny
from tests.unit.tasks_kit import Event, model_of, near, outputs, reference

TEXT = "the film [SEP] was [CLS] good </s> <s> 東京 [PAD]<pad><mask>"
NLI = ("contradiction", "neutral", "entailment")
TASKS: list[tuple[str, str, tuple[str, ...], Event]] = [
    ("text-classification", "ForSequenceClassification", NLI, (TEXT, TEXT)),
    ("token-classification", "ForTokenClassification", ("O", "B-PER"), TEXT),
    ("embedding", "", ("a",), TEXT),
    ("similarity", "", ("a",), (TEXT, None, {"candidates": [TEXT, "film"]})),
    ("rerank", "ForSequenceClassification", ("a",), (TEXT, None, {"candidates": [TEXT, "film"]})),
    ("zero-shot-classification", "ForSequenceClassification", NLI, (TEXT, None, {"candidate_labels": [TEXT, "film"]})),
    ("question-answering", "ForQuestionAnswering", ("a", "b"), (TEXT, None, {"question": TEXT})),
    ("fill-mask", "ForMaskedLM", ("a",), f"[MASK] {TEXT}"),
]


@pytest.mark.parametrize("architecture", [BERT, ROBERTA])
def test_text_is_split_as_transformers_splits_it(architecture: str, tmp_path: Path) -> None:
    """Single texts and pairs; without the option, as a plain tokenizer reads them."""
    path = tiny(tmp_path, architecture, "")
    _, plain = reference(path, "")
    for as_text in (True, False):
        own = TextTokenizer(path, special_as_text=as_text)
        for given in (TEXT, (TEXT, TEXT)):
            (encoding,) = own.encode([given])
            expected = plain([given], truncation=True, split_special_tokens=as_text)["input_ids"][0]
            assert getattr(encoding, "ids", None) == expected


@pytest.mark.parametrize("architecture", [BERT, ROBERTA, XLM_ROBERTA])
def test_no_letters_make_a_control_token(architecture: str, tmp_path: Path) -> None:
    """Not even where the vocabulary has them as a piece, as that of unigrams has."""
    path = tiny(tmp_path, architecture, "")
    _, plain = reference(path, "")
    (alone,) = TextTokenizer(path, special_as_text=True).encode(["film"])
    for content in (plain.cls_token, plain.sep_token, plain.pad_token, plain.mask_token):
        (encoding,) = TextTokenizer(path, special_as_text=True).encode([f"film {content}{content} film"])
        assert isinstance(encoding, tokenizers.Encoding)
        assert isinstance(alone, tokenizers.Encoding)
        made = {plain.cls_token_id, plain.sep_token_id, plain.pad_token_id, plain.mask_token_id}
        assert [one for one in encoding.ids if one in made] == [one for one in alone.ids if one in made]
        assert len(encoding.ids) > len(alone.ids) + 1


@pytest.mark.parametrize(("task", "head", "labels", "event"), TASKS, ids=[task for task, *_ in TASKS])
def test_every_task_has_the_option(task: str, head: str, labels: tuple[str, ...], event: Event, tmp_path: Path) -> None:
    """With `text` another answer than with `control`, which is the default."""
    path = tiny(tmp_path, BERT, head, labels=labels, max_tokens=256)
    given: list[dict[str, Any]] = [{}, {"special_tokens_in_text": "control"}, {"special_tokens_in_text": "text"}]
    default, control, text = (outputs(model_of(path, task, **options), [event]) for options in given)
    assert default == control != text


def test_a_class_is_what_the_letters_say(tmp_path: Path) -> None:
    """The score of transformers with `split_special_tokens`."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification")
    network, tokenizer = reference(path, "ForSequenceClassification")
    model = model_of(path, "text-classification", special_tokens_in_text="text", top_k=3)
    (output,) = outputs(model, [TEXT])
    with torch.inference_mode():
        inputs = tokenizer([TEXT], truncation=True, return_tensors="pt", split_special_tokens=True)
        scores = network(**inputs).logits[0].softmax(-1).numpy()
    assert [one["score"] for one in output["scores"]] == near(np.sort(scores)[::-1])


def test_the_mask_stays_a_mask(tmp_path: Path) -> None:
    """In fill-mask alone; other special tokens beside it are letters, in what is answered too."""
    path = tiny(tmp_path, BERT, "ForMaskedLM", max_tokens=64)
    network, tokenizer = reference(path, "ForMaskedLM")
    model = model_of(path, "fill-mask", special_tokens_in_text="text", top_k=1000)
    (output,) = outputs(model, ["the [SEP] was [MASK]"])
    ids = tokenizer(["the [SEP] was"], split_special_tokens=True)["input_ids"][0]
    mask = tokenizer.mask_token_id
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([[*ids[:-1], mask, ids[-1]]])).logits[0, -2]
    (candidates,) = output["candidates"]
    by_id: dict[int, Any] = {one["token_id"]: one for one in candidates}
    assert [by_id[number]["score"] for number in range(len(logits))] == near(logits.softmax(-1).numpy())
    assert by_id[mask]["token"] == tokenizer.decode([mask])


def test_other_values_are_refused(tmp_path: Path) -> None:
    """By the option's name, with the values that there are."""
    with pytest.raises(ModelError, match=r"special_tokens_in_text.*text.*control"):
        model_of(tiny(tmp_path, BERT, ""), "embedding", special_tokens_in_text="letters")
