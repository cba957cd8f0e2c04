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


_LABELS: Final = frozenset(
    f"{name}_{how}" for name in ("precision", "recall", "f1") for how in ("micro", "macro", "weighted")
)
_OF_LABELS: Final = frozenset({"precision", "recall", "f1"})
_CALIBRATION: Final = frozenset({"ece", "overconfidence", "brier"})
_NUMBERS: Final = frozenset({"mae", "rmse", "bias", "spearman"})


def metrics_of(task: str) -> frozenset[str]:
    """The names of numbers that an evaluation of this task may have; to `precision`, `recall` and `f1` belongs a label:
    `recall.LABEL`."""
    if task in ("text-classification", "zero-shot-classification"):
        names = {"accuracy", "accuracy_of_all", "subset_accuracy", "hamming_loss"}
        found = names | _LABELS | _OF_LABELS | _CALIBRATION | _NUMBERS
    elif task == "token-classification":
        partial = {"precision_partial", "recall_partial", "f1_partial", "texts_right"}
        found = partial | _LABELS | _OF_LABELS
    elif task == "question-answering":
        found = {"exact_match", "word_f1"}
    elif task == "similarity":
        found = set(_NUMBERS)
    elif task == "scoring":
        found = {"perplexity"}
    else:
        found = {"rouge_l", "exact_match", "length_ratio"}
    return frozenset({"answered", *found})
