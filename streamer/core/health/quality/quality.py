"""How right a model's answers were: all sums of one evaluation, and the numbers that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.confusion import Confusion, MultiLabel
from streamer.core.health.quality.counts import Count, Counts, macro, micro, ratio, weighted
from streamer.core.health.quality.evidence import Answer, Entities, Evidence, Likelihood, Number, One, Several, Text
from streamer.core.health.quality.overlap import Overlap
from streamer.core.health.quality.perplexity import Perplexity
from streamer.core.health.quality.regression import Regression
from streamer.core.health.quality.spans import Spans
from streamer.core.health.sums import added

_AVERAGES: Final = {"micro": micro, "macro": macro, "weighted": weighted}
EXACT_UP_TO: Final = 200_000
"""Texts of which Spearman's correlation is exact; of more it is that of a uniform sample of so many."""

_LOWER_IS_BETTER: Final = frozenset({"hamming_loss", "ece", "brier", "mae", "rmse", "perplexity"})


class Quality(msgspec.Struct):
    """`answered` texts that were held to their labels, and `failed` ones, by code, that got no answer: no other number
    counts those. Of the rest only what goes with the task is there. `labels` are those that the model is known to give.
    """

    answered: int = 0
    failed: dict[str, int] = {}
    labels: list[str] = []
    confusion: Confusion | None = None
    multilabel: MultiLabel | None = None
    calibration: Calibration | None = None
    spans: Spans | None = None
    answers: Overlap | None = None
    texts: Overlap | None = None
    regression: Regression | None = None
    perplexity: Perplexity | None = None

    def count(self, evidence: Evidence, key: bytes, weight: Count = 1, pairs: int = EXACT_UP_TO) -> None:
        """Count a text `weight` times; `key` names it, and of numbers a sample of `pairs` is kept."""
        self.answered += 1
        match evidence:
            case One(truth, predicted, score):
                self.confusion = self.confusion or Confusion()
                self.calibration = self.calibration or Calibration()
                self.confusion.add(truth, predicted, weight)
                self.calibration.add(score, truth == predicted, weight)
            case Several(truths, given, scores):
                self.multilabel = self.multilabel or MultiLabel()
                self.calibration = self.calibration or Calibration()
                self.multilabel.add(truths, given, scores, weight)
                for label, score in scores.items():
                    self.calibration.add(score, label in truths, weight)
            case Number(number, answer):
                self.regression = self.regression or Regression(pairs)
                self.regression.add(number, answer, key, weight)
            case Entities(spans):
                self.spans = self.spans or Spans()
                self.spans.include(spans, weight)
            case Answer(overlap):
                self.answers = self.answers or Overlap()
                self.answers.include(overlap, weight)
            case Text(overlap):
                self.texts = self.texts or Overlap()
                self.texts.include(overlap, weight)
            case Likelihood(log_likelihood, tokens):
                self.perplexity = self.perplexity or Perplexity()
                self.perplexity.add(log_likelihood, tokens, weight)

    def fits(self, evidence: Evidence) -> None:
        """Raises ValueError, with words that go on after "the label", where those before it were of another kind."""
        for kind, part, words in _KINDS:
            if isinstance(evidence, kind):
                others = {other for _, other, _ in _KINDS} - {part}
                if any(getattr(self, other) is not None for other in others):
                    raise ValueError(f"is {words}, and those before it are not")

    def fail(self, code: str) -> None:
        """Count a text that got no answer."""
        self.failed[code] = self.failed.get(code, 0) + 1

    def merge(self, other: Quality) -> Quality:
        """New sums of both, which are of one task."""
        merged = Quality(
            self.answered + other.answered,
            added([self.failed, other.failed]) or {},
            sorted({*self.labels, *other.labels}),
        )
        for part in self.__struct_fields__[3:]:
            setattr(merged, part, added([getattr(self, part), getattr(other, part)]))
        return merged

    @property
    def without_answer(self) -> int:
        """How many texts failed."""
        return sum(self.failed.values())

    def by_label(self) -> dict[str, Counts]:
        """Hits and misses of each label; none for tasks without labels."""
        for part in (self.confusion, self.multilabel, self.spans):
            if part is not None:
                return part.by_label()
        return {}

    def foreign(self) -> dict[str, Count]:
        """Labels of the file that the model does not give, with how often each is true."""
        if not self.labels or self.spans is not None:
            return {}
        return {label: own.support for label, own in self.by_label().items() if label not in self.labels}

    def metrics(self) -> dict[str, float | None]:
        """All numbers by name, those of one label as `recall.LABEL`; None where one is not defined."""
        found: dict[str, float | None] = {"answered": ratio(self.answered, self.answered + self.without_answer)}
        if self.confusion is not None:
            found["accuracy"] = self.confusion.accuracy
            found["accuracy_of_all"] = ratio(self.confusion.right, self.confusion.total + self.without_answer)
        if self.multilabel is not None:
            found["subset_accuracy"] = self.multilabel.subset_accuracy
            found["hamming_loss"] = self.multilabel.hamming_loss
        if (own := self.by_label()) or self.spans is not None:
            found |= _averages(own)
        if self.spans is not None:
            partial = self.spans.partial
            found["precision_partial"], found["recall_partial"], found["f1_partial"] = partial
            found["texts_right"] = self.spans.texts_right
        if self.calibration is not None and self.calibration.total:
            found["ece"] = self.calibration.ece
            found["overconfidence"] = self.calibration.overconfidence
            found["brier"] = self.calibration.brier
        if self.answers is not None:
            found["exact_match"] = self.answers.mean(self.answers.exact)
            found["word_f1"] = self.answers.mean(self.answers.word_f1)
        if self.texts is not None:
            found["rouge_l"] = self.texts.mean(self.texts.rouge_l)
            found["exact_match"] = self.texts.mean(self.texts.exact)
            found["length_ratio"] = self.texts.length_ratio
        if self.regression is not None:
            found["mae"], found["rmse"] = self.regression.mae, self.regression.rmse
            found["bias"], found["spearman"] = self.regression.bias, self.regression.spearman
        if self.perplexity is not None:
            found["perplexity"] = self.perplexity.value
        for label, counts in own.items():
            found[f"precision.{label}"] = counts.precision
            found[f"recall.{label}"] = counts.recall
            found[f"f1.{label}"] = counts.f1
        return found


_KINDS: Final = (
    (One, "confusion", "one name"),
    (Several, "multilabel", "a list"),
    (Number, "regression", "a number"),
)


def lower_is_better(metric: str) -> bool:
    """Whether a small value is a good one."""
    return metric in _LOWER_IS_BETTER


def _averages(labels: Mapping[str, Counts]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, average in _AVERAGES.items():
        found[f"precision_{name}"], found[f"recall_{name}"], found[f"f1_{name}"] = average(labels)
    return found
