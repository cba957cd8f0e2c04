"""Which judge compares the answers of a task with labels, and which numbers that gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from streamer.core.health.judges.entities import EntityJudge
from streamer.core.health.judges.labels import LabelJudge
from streamer.core.health.judges.numbers import NumberJudge, ScoringJudge
from streamer.core.health.judges.texts import AnswerJudge, TextJudge
from streamer.core.health.judges.verdict import Judge

_OF_LABELS: Final = {
    f"{name}{how}" for name in ("precision", "recall", "f1") for how in ("", "_micro", "_macro", "_weighted")
}
_OF_NUMBERS: Final = {"mae", "rmse", "bias", "spearman"}
_OF_CLASSES: Final = {
    "accuracy",
    "accuracy_of_all",
    "subset_accuracy",
    "hamming_loss",
    "ece",
    "overconfidence",
    "brier",
}
_OF_ENTITIES: Final = {"precision_partial", "recall_partial", "f1_partial", "texts_right"}
_OF_TEXTS: Final = {"rouge_l", "exact_match", "length_ratio"}

_Make = Callable[[Mapping[str, str], float], Judge]
_TASKS: Final[dict[str, tuple[_Make, set[str]]]] = {
    "text-classification": (LabelJudge, _OF_CLASSES | _OF_LABELS | _OF_NUMBERS),
    "zero-shot-classification": (LabelJudge, _OF_CLASSES | _OF_LABELS | _OF_NUMBERS),
    "token-classification": (lambda names, _: EntityJudge(names), _OF_ENTITIES | _OF_LABELS),
    "question-answering": (lambda *_: AnswerJudge(), {"exact_match", "word_f1"}),
    "summarization": (lambda *_: TextJudge(), _OF_TEXTS),
    "translation": (lambda *_: TextJudge(), _OF_TEXTS),
    "text2text-generation": (lambda *_: TextJudge(), _OF_TEXTS),
    "text-generation": (lambda *_: TextJudge(), _OF_TEXTS),
    "similarity": (lambda *_: NumberJudge(), _OF_NUMBERS),
    "scoring": (lambda *_: ScoringJudge(), {"perplexity"}),
}
TASKS: Final = tuple(_TASKS)


def judge_of(task: str, names: Mapping[str, str], threshold: float) -> Judge | None:
    """The judge of a task's answers; None where there is none. `names` are other names for labels of the file, a label
    of several counts as given from `threshold` on."""
    return _TASKS[task][0](names, threshold) if task in _TASKS else None


def metrics_of(task: str) -> frozenset[str]:
    """The names of numbers that an evaluation of one of `TASKS` may have; to `precision`, `recall` and `f1` belongs a
    label: `recall.LABEL`."""
    return frozenset({"answered", *_TASKS[task][1]})
