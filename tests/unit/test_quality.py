"""The numbers of quality equal those of scikit-learn and scipy, or a reference written from the definition, and sums
of parts equal the sum of the whole."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from functools import reduce
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    hamming_loss,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
)

from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.confusion import Confusion, MultiLabel
from streamer.core.health.quality.counts import macro, micro, weighted
from streamer.core.health.quality.overlap import Overlap, exact_match, longest_common, rouge_l, word_f1, words
from streamer.core.health.quality.perplexity import Perplexity, perplexity
from streamer.core.health.quality.quality import Quality
from streamer.core.health.quality.regression import Regression, spearman
from streamer.core.health.quality.spans import Entity, Spans, of_tags

CLOSE = 1e-12
AVERAGES = {"micro": micro, "macro": macro, "weighted": weighted}


def labelled(seed: int) -> tuple[list[str], list[str]]:
    """True and predicted labels: balanced, rare, never predicted, never true, or one class alone."""
    draw = random.Random(seed)
    names = ["complaint", "praise", "question", "other", "spam"][: draw.randint(1, 5)]
    truths, guesses = draw.sample(names, draw.randint(1, len(names))), draw.sample(names, draw.randint(1, len(names)))
    weights = [draw.random() + 0.01 for _ in truths]
    truth = draw.choices(truths, weights, k=draw.randint(1, 300))
    return truth, [one if one in guesses and draw.random() < 0.7 else draw.choice(guesses) for one in truth]


def confusion_of(truth: list[str], predicted: list[str]) -> Confusion:
    """Counted one by one."""
    confusion = Confusion()
    for one, other in zip(truth, predicted, strict=True):
        confusion.add(one, other)
    return confusion


@pytest.mark.filterwarnings("ignore:A single label")
@pytest.mark.parametrize("seed", range(40))
def test_a_confusion_matrix_equals_scikit_learn(seed: int) -> None:
    """Cells, accuracy, and precision, recall, F1 and support of each label and each average."""
    truth, predicted = labelled(seed)
    confusion = confusion_of(truth, predicted)
    labels, each = confusion.labels(), confusion.by_label()
    cells = [[confusion.cells.get(one, {}).get(other, 0) for other in labels] for one in labels]
    assert cells == confusion_matrix(truth, predicted, labels=labels).tolist()
    assert confusion.accuracy == pytest.approx(accuracy_score(truth, predicted), abs=CLOSE)
    found = [(own.precision, own.recall, own.f1, own.support) for own in each.values()]
    theirs = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    np.testing.assert_allclose(found, np.stack(theirs, axis=1), rtol=0, atol=CLOSE)
    for name, average in AVERAGES.items():
        theirs = precision_recall_fscore_support(truth, predicted, average=name, zero_division=0)[:3]
        np.testing.assert_allclose(average(each), theirs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("seed", range(40))
def test_several_labels_a_text_equal_scikit_learn(seed: int) -> None:
    """Also where a label is never true or never given, and where a text has none."""
    draw = np.random.default_rng(seed)
    names = [f"label-{number}" for number in range(draw.integers(1, 7))]
    shape = int(draw.integers(1, 200)), len(names)
    truth = draw.random(shape) < draw.random(len(names)) * draw.integers(0, 2, len(names))
    predicted = np.where(draw.random(shape) < 0.7, truth, draw.random(shape) < 0.2)
    sums = MultiLabel()
    for one, other in zip(truth, predicted, strict=True):
        sums.add(list(itertools.compress(names, one)), list(itertools.compress(names, other)), names)
    assert sums.subset_accuracy == pytest.approx(accuracy_score(truth, predicted), abs=CLOSE)
    assert sums.hamming_loss == pytest.approx(hamming_loss(truth, predicted), abs=CLOSE)
    as_matrix = {"zero_division": 0, "labels": list(range(len(names)))}
    found = [(own.precision, own.recall, own.f1) for own in sums.by_label().values()]
    if len(names) > 1:  # scikit-learn takes one column for a binary task
        theirs = precision_recall_fscore_support(truth, predicted, average=None, **as_matrix)[:3]
        np.testing.assert_allclose(found, np.stack(theirs, axis=1), rtol=0, atol=CLOSE)
        for name, average in AVERAGES.items():
            theirs = precision_recall_fscore_support(truth, predicted, average=name, **as_matrix)[:3]
            np.testing.assert_allclose(average(sums.by_label()), theirs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("seed", range(10))
def test_calibration_equals_scikit_learn(seed: int) -> None:
    """The reliability table, ECE from its definition over that table, and the Brier score."""
    draw = np.random.default_rng(seed)
    scores = draw.beta(5, 1 + seed / 3, 500 if seed else 1)
    right = draw.random(len(scores)) < scores**2
    calibration = Calibration()
    for score, one in zip(scores.tolist(), right.tolist(), strict=True):
        calibration.add(score, one)
    accuracy, confidence = calibration_curve(right, scores, n_bins=20) if seed else (right.astype(float), scores)
    table = calibration.table()
    np.testing.assert_allclose([each.accuracy for each in table], accuracy, rtol=0, atol=CLOSE)
    np.testing.assert_allclose([each.confidence for each in table], confidence, rtol=0, atol=CLOSE)
    counts = np.histogram(scores, np.linspace(0, 1, 21))[0]
    assert calibration.counts == counts.tolist()
    gaps = counts[counts > 0] / len(scores) * np.abs(accuracy - confidence)
    assert calibration.ece == pytest.approx(gaps.sum(), abs=CLOSE)
    assert calibration.overconfidence == pytest.approx(scores.mean() - right.mean(), abs=CLOSE)
    assert calibration.brier == pytest.approx(brier_score_loss(right, scores, labels=[False, True]), abs=CLOSE)
    assert calibration.estimate(calibration.counts) == pytest.approx(right.mean(), abs=CLOSE)


def test_edges_of_bins_and_scores_that_are_no_probability() -> None:
    """The lower edge belongs to a bin, 1.0 to the last; what is outside stands in none and is counted."""
    calibration = Calibration()
    for score in (0.0, 0.05, 1.0, -1.0, 1.5, math.nan):
        calibration.add(score, True)
    assert (calibration.counts[0], calibration.counts[1], calibration.counts[19]) == (1, 1, 1)
    assert (calibration.total, calibration.outside) == (3, 3)
    assert calibration.estimate([0, 0, 0, 5] + [0] * 16) is None, "nothing is known of that bin"


@pytest.mark.parametrize("seed", range(20))
def test_numbers_equal_scikit_learn_and_scipy(seed: int) -> None:
    """MAE, RMSE, and Spearman with and without ties."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(size=int(draw.integers(2, 300)))
    predicted = truth + draw.normal(size=len(truth))
    if seed % 2:
        truth, predicted = truth.round(), predicted.round()
    sums = Regression()
    for number, (one, other) in enumerate(zip(truth.tolist(), predicted.tolist(), strict=True)):
        sums.add(one, other, b"%d" % number)
    assert sums.mae == pytest.approx(mean_absolute_error(truth, predicted), abs=CLOSE)
    assert sums.rmse == pytest.approx(math.sqrt(mean_squared_error(truth, predicted)), abs=CLOSE)
    assert sums.bias == pytest.approx((predicted - truth).mean(), abs=CLOSE)
    if len(set(truth)) > 1 and len(set(predicted)) > 1:
        assert sums.spearman == pytest.approx(spearmanr(truth, predicted).statistic, abs=CLOSE)


def test_a_rank_correlation_that_is_not_defined_is_none() -> None:
    """Fewer than two pairs, or a side that never changes."""
    assert spearman([], []) is None
    assert spearman([1.0], [2.0]) is None
    assert spearman([1.0, 1.0], [1.0, 2.0]) is None


def test_the_sample_for_ranks_is_bounded_and_does_not_depend_on_order_or_split() -> None:
    """The same pairs are kept however the texts are divided."""
    pairs = [(float(number), float(-number), b"%d" % number) for number in range(1_000)]
    random.Random(1).shuffle(pairs)

    def of(some: list[tuple[float, float, bytes]]) -> Regression:
        sums = Regression(limit=50)
        for pair in some:
            sums.add(*pair)
        return sums

    whole, merged = of(pairs), of(pairs[700:]).merge(of(pairs[:700]))
    assert sorted(whole.sample) == sorted(merged.sample)
    assert len(whole.sample) == 50
    assert whole.spearman == merged.spearman == -1.0
    assert 300 < np.mean([truth for _, truth, _ in whole.sample]) < 700, "a sample of all, not of the first or the last"


# --- entities --------------------------------------------------------------------------------------------------------


def entities(draw: random.Random) -> list[Entity]:
    """Some that do not overlap, left to right."""
    borders = sorted(draw.sample(range(30), 2 * draw.randint(0, 5)))
    pairs = zip(borders[::2], borders[1::2], strict=True)
    return [Entity(start, end, draw.choice(["PER", "LOC"])) for start, end in pairs]


def most_pairs(missed: list[Entity], wrong: list[Entity]) -> int:
    """By trying all."""
    if not missed:
        return 0
    first, *rest = missed
    best = most_pairs(rest, wrong)
    for place, other in enumerate(wrong):
        if first.label == other.label and first.start < other.end and other.start < first.end:
            best = max(best, 1 + most_pairs(rest, wrong[:place] + wrong[place + 1 :]))
    return best


@pytest.mark.parametrize("seed", range(60))
def test_entities_are_counted_whole_or_as_overlaps(seed: int) -> None:
    """Exact ones by sets, and as many overlapping pairs as there can be."""
    draw = random.Random(seed)
    truth = entities(draw)
    shifted = [each._replace(start=max(0, each.start - draw.randint(0, 2))) for each in truth if draw.random() < 0.8]
    predicted = shifted if draw.random() < 0.5 else entities(draw)
    sums = Spans()
    added = sums.add(truth, predicted)
    hits = set(truth) & set(predicted)
    assert added == (len(hits), len(set(predicted) - hits), len(set(truth) - hits))
    assert sums.overlaps == most_pairs(sorted(set(truth) - hits), sorted(set(predicted) - hits))
    half = len(hits) + sums.overlaps / 2
    assert sums.partial.precision == (half / len(predicted) if predicted else 0.0)
    assert sums.partial.recall == (half / len(truth) if truth else 0.0)
    assert sums.texts_right == (set(truth) == set(predicted))


def test_an_entity_found_twice_is_right_once() -> None:
    """The second is false."""
    sums = Spans()
    one = Entity(0, 3, "PER")
    assert sums.add([one], [one, one]) == (1, 1, 0)


def test_bio_tags_become_entities() -> None:
    """An I- without its B- begins one, as in CoNLL's evaluation; what does not fit is said."""
    text = "Ada Lovelace met  Charles in London ."
    found = of_tags(["B-PER", "I-PER", "O", "I-PER", "O", "B-LOC", "O"], text)
    assert [(text[one.start : one.end], one.label) for one in found] == [
        ("Ada Lovelace", "PER"), ("Charles", "PER"), ("London", "LOC"),
    ]  # fmt: skip
    assert len(of_tags(["B-PER", "B-PER"], "Ada Grace")) == 2
    assert len(of_tags(["B-PER", "I-LOC"], "Ada London")) == 2
    with pytest.raises(ValueError, match="has 1 tags, and its text 2 words"):
        of_tags(["O"], "two words")
    with pytest.raises(ValueError, match="'PER', which is none of"):
        of_tags(["PER"], "Ada")


# --- texts -----------------------------------------------------------------------------------------------------------


def longest_by_table(first: list[str], second: list[str]) -> int:
    """Longest common subsequence by the table of its definition."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, column in itertools.product(range(len(first)), range(len(second))):
        same = first[row] == second[column]
        table[row + 1][column + 1] = (
            table[row][column] + 1 if same else max(table[row][column + 1], table[row + 1][column])
        )
    return table[-1][-1]


@pytest.mark.parametrize("seed", range(100))
def test_rouge_l_follows_from_the_longest_common_subsequence(seed: int) -> None:
    """For any two texts, empty ones included."""
    draw = random.Random(seed)
    first, second = (draw.choices("abcdef"[: draw.randint(1, 6)], k=draw.randint(0, 90)) for _ in range(2))
    common = longest_by_table(first, second)
    assert longest_common(first, second) == common
    precision = common / len(first) if first else 0.0
    recall = common / len(second) if second else 0.0
    expected = 2 * precision * recall / (precision + recall) if common else 0.0
    assert rouge_l(" ".join(first), " ".join(second)) == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("The quick brown fox jumps over the dog", "A fast brown fox jumped over the lazy dog.", 0.5882352941176471),
        ("police killed the gunman", "police kill the gunman", 0.75),
        ("It's 3.5 x_y.", "it s 3 5 x y z", 0.923076923076923),
        ("a b c d e f", "f e d c b a a", 0.15384615384615383),
        ("", "word", 0.0),
    ],
)
def test_rouge_l_is_that_of_rouge_score(text: str, reference: str, expected: float) -> None:
    """Numbers of rouge-score 0.1.2, without its stemmer."""
    assert rouge_l(text, reference) == pytest.approx(expected, abs=CLOSE)


def test_words_of_other_scripts() -> None:
    """Marks belong to their word, and scripts without spaces count by character."""
    assert words("Füße, наука!") == ["füße", "наука"]
    assert words("e\u0301tude") == ["étude"]
    assert words("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]
    assert words("私はAda") == ["私", "は", "ada"]


def test_answers_compare_as_squad_does() -> None:
    """Articles, punctuation and case do not count; no answer matches only no answer."""
    assert exact_match("The Eiffel Tower!", "eiffel tower")
    assert not exact_match("Eiffel", "Eiffel Tower")
    assert word_f1("the big Eiffel tower", "Eiffel Tower") == pytest.approx(0.8, abs=CLOSE)
    assert (word_f1("", ""), word_f1("", "x"), word_f1("the", "")) == (1.0, 0.0, 1.0)
    sums = Overlap()
    assert sums.add_answer("1843", ["in 1843", "1843"]) == 1.0
    assert sums.add_answer("1843", []) == 0.0
    assert (sums.texts, sums.exact) == (2, 1)


def test_a_text_is_held_to_the_reference_it_fits_best() -> None:
    """And its length, too."""
    sums = Overlap()
    assert sums.add_text("a b", ["x y z", "a b c d"]) == pytest.approx(2 / 3, abs=CLOSE)
    assert (sums.words, sums.reference_words, sums.length_ratio) == (2, 4, 0.5)


def test_perplexity_is_of_all_tokens() -> None:
    """The inverse geometric mean of all tokens' probabilities, whatever text they stand in."""
    draw = np.random.default_rng(1)
    texts = [draw.uniform(0.01, 1, size) for size in (1, 5, 70)]
    sums = Perplexity()
    for text in texts:
        sums.add(float(np.log(text).sum()), len(text))
    sums.add(None, 0)
    every = np.concatenate(texts)
    assert sums.value == pytest.approx(float(np.prod(1 / every) ** (1 / len(every))), rel=CLOSE)
    assert (sums.texts, sums.unscored) == (3, 1)
    assert perplexity(0.0, 0) is None
    assert perplexity(-1e6, 1) is None, "no number is as large"


# --- merging ---------------------------------------------------------------------------------------------------------


def _confusion(draw: random.Random) -> Quality:
    return Quality(1, {"infer.exception": draw.randint(0, 2)}, ["a"], confusion=confusion_of(*labelled(draw.random())))  # type: ignore[arg-type]


def _multilabel(draw: random.Random) -> Quality:
    sums, calibration = MultiLabel(), Calibration()
    for _ in range(5):
        sums.add(draw.sample("abcd", 2), draw.sample("abcd", 2))
        calibration.add(draw.randint(0, 64) / 64, draw.random() < 0.5)  # sums of these are exact in any order
    return Quality(5, multilabel=sums, calibration=calibration)


def _spans(draw: random.Random) -> Quality:
    sums = Spans()
    for _ in range(5):
        sums.add(entities(draw), entities(draw))
    return Quality(5, spans=sums)


def _texts(draw: random.Random) -> Quality:
    texts, likelihood = Overlap(), Perplexity()
    texts.exact, texts.texts, texts.rouge_l = draw.randint(0, 5), 5, draw.randint(0, 64) / 64
    likelihood.add(-draw.randint(0, 64) / 64, 3)
    return Quality(5, texts=texts, perplexity=likelihood)


@pytest.mark.parametrize("make", [_confusion, _multilabel, _spans, _texts])
def test_parts_merge_in_any_order_and_survive_json(make: Callable[[random.Random], Quality]) -> None:
    """The app adds up windows: order and grouping change nothing."""
    draw = random.Random(7)
    parts = [make(draw) for _ in range(6)]
    before = msgspec.json.encode(parts)
    whole: Quality = reduce(Quality.merge, parts)
    shuffled = parts[:]
    draw.shuffle(shuffled)
    again = reduce(Quality.merge, shuffled[:2]).merge(reduce(Quality.merge, shuffled[2:]))
    back = msgspec.json.decode(msgspec.json.encode(whole), type=Quality)

    def seen(quality: Quality) -> dict[str, Any]:
        return {**quality.metrics(), "failed": quality.without_answer, "rows": quality.answered}

    assert seen(whole) == seen(again) == seen(back)
    assert msgspec.json.encode(parts) == before, "merging changes no part"
