"""What the page of tasks tells people to run, runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from streamer.core.events.codec import Codec
from streamer.core.record import Segment
from streamer.errors import DataFailure
from streamer.inference.tasks.families import TASKS
from streamer.inference.tasks.text_generation import TextGeneration
from tests.language_models import tiny_decoder, tiny_seq2seq
from tests.records import FakeRecord
from tests.tiny_models import BERT, tiny
from tests.unit.tasks_kit import model_of, outputs

ROOT = Path(__file__).parents[2]
LINES = re.findall(
    r"^echo '(.+)' \| streamer infer --task (\S+) --model \"\$MODEL\"$",
    (ROOT / "docs" / "tasks.md").read_text(),
    re.MULTILINE,
)


def _encoder(head: str, *labels: str) -> Callable[[Path], Path]:
    return lambda path: tiny(path, BERT, head, labels=labels or ("a", "b", "c"))


MODELS: dict[str, Callable[[Path], Path]] = {
    "text-classification": _encoder("ForSequenceClassification"),
    "token-classification": _encoder("ForTokenClassification"),
    "embedding": _encoder(""),
    "similarity": _encoder(""),
    "rerank": _encoder("ForSequenceClassification", "relevant"),
    "zero-shot-classification": _encoder(""),
    "question-answering": _encoder("ForQuestionAnswering", "start", "end"),
    "fill-mask": _encoder("ForMaskedLM"),
    **dict.fromkeys(("summarization", "translation", "text2text-generation"), lambda path: tiny_seq2seq(path, "t5")),
    **dict.fromkeys(("text-generation", "scoring"), lambda path: tiny_decoder(path, "llama")),
}


def test_every_task_has_its_line() -> None:
    """The page shows one line for each task that there is."""
    assert {task for _, task in LINES} == set(TASKS) == set(MODELS)


@pytest.mark.parametrize(("value", "task"), LINES, ids=[task for _, task in LINES])
def test_a_line_is_answered(value: str, task: str, tmp_path: Path) -> None:
    """Its event is one, a model of that task answers it, and the answer is what the schema says."""
    segment = Segment("in", 0, 1, [FakeRecord(value.encode())])
    Codec("p").decode(segment)
    (event,) = segment.events
    assert event is not None, segment.outcomes
    model = model_of(MODELS[task](tmp_path), task)
    (output,) = outputs(model, [(event.text, event.text_pair, event.params or {})])
    if isinstance(model, TextGeneration):
        model.close()  # it has threads
    assert not isinstance(output, DataFailure)
    jsonschema.validate(output, json.loads((ROOT / f"schemas/outputs/{task}.json").read_text()))
