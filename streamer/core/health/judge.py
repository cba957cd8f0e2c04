"""Who holds the answers of a task to labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamer.core.health.entity_judge import EntityJudge
from streamer.core.health.label_judge import LabelJudge
from streamer.core.health.number_judge import NumberJudge, ScoringJudge
from streamer.core.health.text_judge import AnswerJudge, TextJudge
from streamer.core.health.verdict import Judge

TASKS: Final = (
    "text-classification",
    "zero-shot-classification",
    "token-classification",
    "question-answering",
    "summarization",
    "translation",
    "text2text-generation",
    "text-generation",
    "similarity",
    "scoring",
)


def judge_of(task: str, names: Mapping[str, str], threshold: float) -> Judge | None:
    """Who judges a task's answers; None where nobody does. `names` are other names for labels of the file, a label of
    several counts as given from `threshold` on."""
    if task in ("text-classification", "zero-shot-classification"):
        return LabelJudge(names, threshold)
    if task == "token-classification":
        return EntityJudge(names)
    if task == "question-answering":
        return AnswerJudge()
    if task == "similarity":
        return NumberJudge()
    if task == "scoring":
        return ScoringJudge()
    return TextJudge() if task in TASKS else None
