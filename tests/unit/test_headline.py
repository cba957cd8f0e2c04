"""What an evaluation comes to, in sentences: each number stands where it belongs, and nothing is claimed of too few."""

from __future__ import annotations

import pytest

from streamer.core.health.evaluation.evaluation import Difference, Evaluation, Example, Versus
from streamer.core.health.evaluation.headline import (
    headline,
    main_metrics,
    metric_words,
    remarks,
    told_difference,
    told_example,
    verdict,
)
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.confusion import Confusion, MultiLabel
from streamer.core.health.quality.counts import Counts
from streamer.core.health.quality.overlap import Overlap
from streamer.core.health.quality.perplexity import Perplexity
from streamer.core.health.quality.quality import Quality
from streamer.core.health.quality.regression import Regression
from streamer.core.health.quality.spans import Spans

CONFUSION = Confusion({"a": {"a": 18, "b": 2}, "b": {"b": 10, "a": 10}})


def evaluation(quality: Quality, model: str = "me/m", revision: str = "0123456789abcdef", **more: int) -> Evaluation:
    return Evaluation(model, revision, "t", quality, **more)  # type: ignore[arg-type]


def regression(truths: list[float], answers: list[float]) -> Regression:
    made = Regression()
    for number, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        made.add(truth, answer, b"%d" % number)
    return made


HEADLINES = {
    "nothing": (Quality(0, {"infer.exception": 2}), "no text was answered"),
    "one label a text": (
        Quality(40, confusion=CONFUSION),
        "accuracy 0.700 (95 % interval 0.546–0.819) over 40 texts; weakest label: b, recall 0.50",
    ),
    "all right": (
        Quality(20, confusion=Confusion({"a": {"a": 10}, "b": {"b": 10}})),
        "accuracy 1.000 (95 % interval 0.839–1.000) over 20 texts",
    ),
    "one label in all": (
        Quality(1, confusion=Confusion({"a": {"a": 1}})),
        "accuracy 1.000 (95 % interval 0.207–1.000) over 1 text",
    ),
    "several labels a text": (
        Quality(4, multilabel=MultiLabel({"a": Counts(3, 1, 1)}, texts=4, exact=2)),
        "F1 0.750 (micro), 0.750 (macro) over 4 texts; all labels right for 0.500 of them (95 % interval 0.150–0.850)",
    ),
    "entities": (
        Quality(2, spans=Spans({"PER": Counts(1, 1, 1)}, overlaps=1, texts=2)),
        "F1 0.500 by whole entities over 2 texts; 0.750 where an overlap counts half",
    ),
    "answers to questions": (
        Quality(4, answers=Overlap(4, 2, 3.0)),
        "exact match 0.500 (95 % interval 0.150–0.850), word F1 0.750 over 4 texts",
    ),
    "texts": (
        Quality(2, texts=Overlap(2, 0, 0.0, 1.0, 30, 20)),
        "ROUGE-L 0.500 over 2 texts, which have 1.50 times the words of their references",
    ),
    "numbers": (
        Quality(3, regression=regression([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])),
        "mean absolute error 0.5, rank correlation (Spearman) 1.000 over 3 texts",
    ),
    "one number": (
        Quality(1, regression=regression([1.0], [3.0])),
        "mean absolute error 2, rank correlation (Spearman) not defined over 1 text",
    ),
    "likelihoods": (Quality(1, perplexity=Perplexity(0.0, 7, 1)), "perplexity 1.00 over 1 text (7 tokens)"),
    "no likelihoods": (Quality(1, perplexity=Perplexity(unscored=1)), "perplexity not defined over 1 text (0 tokens)"),
}


@pytest.mark.parametrize(("quality", "told"), HEADLINES.values(), ids=HEADLINES.keys())
def test_the_headline_of_each_task(quality: Quality, told: str) -> None:
    """How right, how sure that is, and where it is weakest, unless that says nothing."""
    assert headline(evaluation(quality)) == told


def calibrated(high: tuple[int, int], low: tuple[int, int] = (0, 0)) -> Calibration:
    """Answers that are 0.95 and 0.55 sure: right and wrong ones of each."""
    made = Calibration()
    for confidence, (right, wrong) in ((0.95, high), (0.55, low)):
        for number in range(right + wrong):
            made.add(confidence, number < right)
    return made


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        (calibrated((95, 5)), ["its confidence can be trusted: off by 0.000 on average (ECE)"]),
        (calibrated((50, 50)), ["its confidence is off by 0.450 on average (ECE): it promises more than it keeps"]),
        (
            calibrated((0, 0), (100, 0)),
            ["its confidence is off by 0.450 on average (ECE): it is right more often than it says"],
        ),
        (
            calibrated((35, 65), (95, 5)),
            ["its confidence is off by 0.500 on average (ECE): it is too sure in places and not sure enough in others"],
        ),
        (calibrated((50, 49)), []),
    ],
    ids=["trusted", "too sure", "too modest", "both", "too few to say"],
)
def test_what_is_said_of_confidence(calibration: Calibration, told: list[str]) -> None:
    """Nothing of less than a hundred answers."""
    assert remarks(evaluation(Quality(100, confusion=CONFUSION, calibration=calibration))) == told


def test_what_else_has_to_be_known() -> None:
    """What was not answered or asked, and numbers of a part of the texts."""
    failing = Quality(40, {"b.c": 1, "a.b": 9}, ["a"], confusion=CONFUSION)
    assert remarks(evaluation(failing, unlabelled=1)) == [
        "10 rows got no answer (a.b 9, b.c 1) and count in no other number; counted as wrong, accuracy is 0.560",
        "1 row without a label left out",
        "labels that the model does not give, so that it is wrong about each: b (20)",
    ]
    numbers = Quality(9, {"a.b": 1}, regression=Regression(limit=5, texts=9), perplexity=Perplexity(unscored=2))
    assert remarks(evaluation(numbers)) == [
        "1 row got no answer (a.b 1) and count in no other number",
        "Spearman's correlation is that of a sample of 5 texts",
        "2 texts with too few tokens to predict one",
    ]


@pytest.mark.parametrize(
    ("versus", "told"),
    [
        (
            {"texts": 1000, "winner": "second", "p": 0.00001, "only_first": 10, "only_second": 1200},
            "other@fedcba987654 is better over 1,000 texts that both answered: accuracy +0.012"
            " (95 % interval +0.003 to +0.021); only m@0123456789ab is right about 10, only other@fedcba987654 about"
            " 1,200, p < 0.0001 (McNemar)",
        ),
        (
            {"texts": 1},
            "it is unclear which model is better over 1 text that both answered: accuracy +0.012"
            " (95 % interval +0.003 to +0.021)",
        ),
        ({"texts": 0}, "no text was answered by both models"),
    ],
    ids=["better", "not known", "none"],
)
def test_which_model_is_better(versus: dict[str, object], told: str) -> None:
    """Named, unless that can't be told."""
    second = evaluation(Quality(1), "other", "fedcba9876543210")
    difference = Difference("accuracy", 0.012, 0.003, 0.021)
    made = Versus(**{"second": second, "left_out": 0, "difference": difference, **versus})  # type: ignore[arg-type]
    assert verdict(evaluation(Quality(1)), made) == told


def test_models_of_one_name_are_told_apart() -> None:
    """By their order."""
    one = evaluation(Quality(1))
    versus = Versus(one, 5, 0, Difference("mae", -0.5), p=0.25, winner="second", only_first=1, only_second=2)
    assert verdict(one, versus) == (
        "the second model is better over 5 texts that both answered: MAE -0.500; only the first model is right about 1,"
        " only the second model about 2, p = 0.25 (McNemar)"
    )
    assert told_difference(versus.difference) == "MAE -0.500"


def test_names_in_words() -> None:
    """Of numbers, and of what an example lacks."""
    words = {"f1_macro": "F1 (macro)", "recall_partial": "recall (partial)", "word_f1": "word F1", "ece": "ECE"}
    assert {name: metric_words(name) for name in words} == words
    assert told_example(Example("f:1", "text", "negative", "positive")) == "label: negative; answer: positive"
    assert told_example(Example("f:1", "text", "", "positive")) == "answer: positive"


def test_the_numbers_to_look_at_first() -> None:
    """Not those of single labels, nor what follows from others."""
    assert set(main_metrics(Quality(40, confusion=CONFUSION))) == {"answered", "accuracy", "f1_macro", "f1_weighted"}
    several = Quality(4, multilabel=MultiLabel({"a": Counts(3, 1, 1)}, texts=4, exact=2))
    assert "f1_micro" in main_metrics(several)
