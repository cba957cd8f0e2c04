"""The task of a directory, by its files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamer.inference.backends.samples import sample_event
from streamer.inference.models.task_of import task_of
from streamer.inference.tasks.options import OPTIONS

NLI = {"id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"}}
ONE = {"id2label": {"0": "LABEL_0"}}


@pytest.mark.parametrize(
    ("config", "card", "task", "tasks"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "", "text-classification", 1),
        ({"architectures": ["BertForSequenceClassification"], **NLI}, "", "", 2),
        ({"architectures": ["BartForSequenceClassification"], **NLI}, "zero-shot-classification", None, 2),
        ({"architectures": ["BertForSequenceClassification"], **ONE}, "", "", 2),
        ({"architectures": ["BertForSequenceClassification"], **ONE}, "text-ranking", "rerank", 2),
        ({"architectures": ["BertForSequenceClassification"], **ONE, "sentence_transformers": {}}, "", "rerank", 2),
        ({"architectures": ["RobertaForTokenClassification"]}, "", "token-classification", 1),
        ({"architectures": ["DistilBertForQuestionAnswering"]}, "", "question-answering", 1),
        ({"architectures": ["BertForMaskedLM"]}, "", "fill-mask", 1),
        ({"architectures": ["LlamaForCausalLM"]}, "", "text-generation", 2),
        ({"architectures": ["GPT2LMHeadModel"]}, "image-classification", "text-generation", 2),
        ({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}}, "", "text-generation", 2),
        ({"architectures": ["MarianMTModel"], "model_type": "marian"}, "", "translation", 1),
        ({"architectures": ["PegasusForConditionalGeneration"], "model_type": "pegasus"}, "", "summarization", 1),
        ({"architectures": ["T5ForConditionalGeneration"]}, "", "", 3),
        ({"architectures": ["BartForConditionalGeneration"]}, "summarization", None, 3),
        (
            {
                "architectures": ["BartForConditionalGeneration"],
                "task_specific_params": {"summarization_cnn": {}, "summarization": {}},
            },
            "",
            "summarization",
            3,
        ),
        (
            {
                "architectures": ["T5ForConditionalGeneration"],
                "task_specific_params": {"summarization": {}, "translation_en_to_de": {}},
            },
            "",
            "",
            3,
        ),
        (
            {"architectures": ["BartForConditionalGeneration"], "task_specific_params": {"conversational": {}}},
            "",
            "",
            3,
        ),
        ({"architectures": ["BertModel"]}, "", "embedding", 3),
        ({"architectures": ["BertModel"]}, "sentence-similarity", "embedding", 3),
        ({"architectures": ["ViTForImageClassification"]}, "text-classification", "", 0),
        ({}, "", "", 0),
    ],
)
def test_the_head_and_what_stands_beside_it_tell(
    tmp_path: Path, config: dict[str, Any], card: str, task: str | None, tasks: int
) -> None:
    """Several tasks are left open unless a file says which; a card never names one that the head can't serve."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    if card:
        (tmp_path / "README.md").write_text(f"---\nlicense: mit\npipeline_tag: {card}\n---\npipeline_tag: other\n")
    found = task_of(tmp_path)
    assert found.task == (card if task is None else task)
    assert len(found.tasks) == tasks
    assert set(found.tasks) <= set(OPTIONS)
    assert not found.task or found.task in found.tasks
    assert all(part in found.why for part in config.get("architectures", ["no architectures"]))


@pytest.mark.parametrize(
    ("kind", "task"), [("SentenceTransformer", "embedding"), ("CrossEncoder", "rerank"), ("", "embedding")]
)
def test_the_files_of_sentence_transformers_tell(tmp_path: Path, kind: str, task: str) -> None:
    """Whatever the network within is."""
    (tmp_path / "modules.json").write_text("[]")
    if kind:
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"model_type": kind}))
    assert task_of(tmp_path).task == task


def test_every_task_has_an_event_to_try_it_with() -> None:
    """A text, and whatever the task needs beside it."""
    for task in OPTIONS:
        assert sample_event(task)["text"]
    assert "<mask>" in sample_event("fill-mask", mask_token="<mask>")["text"]
