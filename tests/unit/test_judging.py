"""Labels of files, held to answers: what a label may look like in each task, what is refused, and what is compared."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from streamer.app.evaluate import Judging, versus
from streamer.app.resample import f1_difference
from streamer.core.health.evaluation.comparison import Comparison
from streamer.core.health.evaluation.evaluation import Evaluation
from streamer.core.health.evaluation.headline import headline, remarks, verdict
from streamer.core.health.evaluation.slices import REST, Slices, length_group
from streamer.core.health.judges.by_task import TASKS, judge_of, metrics_of
from streamer.core.health.judges.verdict import Judge
from streamer.errors import UsageError
from streamer.files.labelled import LabelFields, LabelledRows
from streamer.ops.evaluate_page import page_of


def judge(task: str, **names: str) -> Judge:
    """Of this task."""
    found = judge_of(task, names, 0.5)
    assert found is not None
    return found


def judged(
    task: str, pairs: Iterable[tuple[Any, dict[str, Any]]], path: Path, *, by: str = "", **files: Any
) -> tuple[Evaluation, Comparison | None]:
    """An evaluation of (row, answer) pairs; a row is what a line of a file has beside its text."""
    rows, answers = zip(*pairs, strict=True)
    path.write_text("".join(json.dumps({"text": "Ada met Grace in London", **row}) + "\n" for row in rows))
    own = judge(task)
    labelled = LabelledRows([str(path)], io.BytesIO(), None, LabelFields("label", by=by), own.read)
    judging = Judging(labelled, own, task, by=bool(by), **{"kept": None, "other": None, **files})
    while labelled.read(7, 1 << 20):
        pass
    lines = [json.dumps(one if "error" in one else {"output": one}) for one in answers]
    judging.write("".join(f"{line}\n" for line in lines).encode(), b"")
    return judging.end(), judging.comparison


def one_label(label: str, score: float = 0.9) -> dict[str, Any]:
    """An answer of a classifier of three labels."""
    rest = [other for other in ("a", "b", "c") if other != label]
    ranked = [{"label": label, "score": score}, *({"label": other, "score": (1 - score) / 2} for other in rest)]
    return {**ranked[0], "scores": ranked}


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_one_label_a_text(tmp_path: Path) -> None:
    """Counted, sliced, and failures apart: they are in no metric, and in every slice."""
    failed = {"error": {"code": "infer.exception", "message": ""}}
    pairs = [
        ({"label": "a", "who": "x"}, one_label("a")),
        ({"label": "b", "who": "x"}, one_label("a")),
        ({"label": "b", "who": "y"}, one_label("b")),
        ({"label": "b", "who": "y"}, failed),
        ({"label": "sarcasm"}, one_label("b")),
    ]
    found, _ = judged("text-classification", pairs, tmp_path / "f.jsonl", by="who")
    metrics = found.quality.metrics()
    assert (metrics["accuracy"], metrics["accuracy_of_all"], metrics["answered"]) == (0.5, 0.4, 0.8)
    assert found.quality.foreign() == {"sarcasm": 1}
    assert found.by_field is not None
    assert {name: (own.mean, own.failed) for name, own in found.by_field.groups.items()} == {
        "x": (0.5, 0), "y": (1.0, 1), "(none)": (0.0, 0),
    }  # fmt: skip
    assert "1 row got no answer (infer.exception 1)" in remarks(found)[0]
    assert "accuracy is 0.400" in remarks(found)[0]
    assert "sarcasm (1)" in remarks(found)[1]
    assert [each.truth for each in found.worst] == ["b", "sarcasm"], "the first of equals first"


def test_several_labels_a_text(tmp_path: Path) -> None:
    """A list of names; those count as given whose score reaches the threshold."""
    answer = {
        "label": "a",
        "score": 0.8,
        "scores": [{"label": one, "score": s} for one, s in zip("abc", (0.8, 0.5, 0.1), strict=True)],
    }
    pairs = [({"label": ["a", "b"]}, answer), ({"label": []}, answer), ({"label": '["c"]'}, answer)]
    found, _ = judged("text-classification", pairs, tmp_path / "f.jsonl")
    metrics = found.quality.metrics()
    assert metrics["subset_accuracy"] == pytest.approx(1 / 3)
    assert metrics["hamming_loss"] == pytest.approx(5 / 9)
    assert found.quality.calibration is not None
    assert found.quality.calibration.total == 9, "each label of each text is a promise"


def test_entities_as_spans_or_tags(tmp_path: Path) -> None:
    """Both say the same of "Ada met Grace in London"."""
    spans = [{"start": 0, "end": 3, "label": "PER"}, {"start": 17, "end": 23, "label": "LOC"}]
    answer = {"entities": [{**each, "score": 0.9, "text": ""} for each in spans]}
    wrong = {"entities": [{"start": 0, "end": 7, "label": "PER", "score": 0.9, "text": ""}]}
    tags = ["B-PER", "O", "O", "O", "B-LOC"]
    pairs = [({"label": spans}, answer), ({"label": tags}, answer), ({"label": json.dumps(tags)}, wrong)]
    found, _ = judged("token-classification", pairs, tmp_path / "f.jsonl")
    metrics = found.quality.metrics()
    assert metrics["f1_micro"] == pytest.approx(8 / 11)
    assert metrics["f1_partial"] == pytest.approx(9 / 11)
    assert metrics["texts_right"] == pytest.approx(2 / 3)
    assert "F1 0.727 by whole entities over 3 texts" in headline(found)


def test_answers_texts_and_numbers(tmp_path: Path) -> None:
    """References alone, in lists, or as SQuAD writes them."""
    answers = [({"label": "the tower"}, {"answer": "Tower"}), ({"label": {"text": []}}, {"answer": ""})]
    found, _ = judged("question-answering", answers, tmp_path / "a.jsonl")
    assert found.quality.metrics()["exact_match"] == 1.0
    texts = [({"label": ["x", "a b"]}, {"text": "a b c d"}), ({"label": "a"}, {"text": "a"})]
    found, _ = judged("summarization", texts, tmp_path / "t.jsonl")
    assert found.quality.metrics()["rouge_l"] == pytest.approx((2 / 3 + 1) / 2)
    numbers = [({"label": 0.5}, {"score": 0.75}), ({"label": "1"}, {"score": 1.25})]
    found, _ = judged("similarity", numbers, tmp_path / "n.jsonl")
    assert (found.quality.metrics()["mae"], found.quality.metrics()["spearman"]) == (0.25, 1.0)
    assert found.lower_is_better


def test_a_classifier_that_gives_a_number(tmp_path: Path) -> None:
    """A regression has one label and no list of scores: its number is compared."""
    pairs = [({"label": 3}, {"label": "LABEL_0", "score": 2.5}), ({"label": "4.5"}, {"label": "LABEL_0", "score": 4.0})]
    found, _ = judged("text-classification", pairs, tmp_path / "f.jsonl")
    assert found.quality.metrics()["mae"] == 0.5
    assert found.value == "mean absolute error"


def test_scoring_needs_no_label(tmp_path: Path) -> None:
    """Its slices are weighted by tokens, so that they are those of a perplexity, too."""
    path = tmp_path / "f.jsonl"
    path.write_text('{"text": "a"}\n' * 3)
    own = judge("scoring")
    rows = LabelledRows([str(path)], io.BytesIO(), None, LabelFields(""), own.read)
    judging = Judging(rows, own, "scoring", by=False, kept=None, other=None)
    rows.read(10, 1 << 20)
    outputs = [(-3.0, 3), (-8.0, 2), (None, 0)]
    lines = [json.dumps({"output": {"log_likelihood": total, "tokens": tokens}}) for total, tokens in outputs]
    judging.write("\n".join(lines).encode(), b"")
    found = judging.end()
    assert found.quality.metrics()["perplexity"] == pytest.approx(np.exp(11 / 5))
    assert found.by_length.groups["0–24"].mean == pytest.approx(11 / 5)
    assert len(found.worst) == 2


@pytest.mark.parametrize("task", TASKS)
def test_every_number_of_a_task_may_be_asked_for(task: str, tmp_path: Path) -> None:
    """`--min` knows before the run what it may ask for."""
    samples: dict[str, Any] = {
        "text-classification": ("a", one_label("a")),
        "zero-shot-classification": ("a", {"labels": ["a", "b"], "scores": [0.8, 0.2]}),
        "token-classification": (["B-X", "O", "O", "O", "O"], {"entities": []}),
        "question-answering": ("a", {"answer": "a"}),
        "similarity": (1, {"score": 1.0}),
        "scoring": ("", {"log_likelihood": -1.0, "tokens": 1}),
    }
    label, answer = samples.get(task, ("a", {"text": "a"}))
    if task != "scoring":
        found, _ = judged(task, [({"label": label}, answer)], tmp_path / "f.jsonl")
        assert {name.partition(".")[0] for name in found.quality.metrics()} <= metrics_of(task)
    assert "perplexity" in metrics_of("scoring")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "label", "words"),
    [
        ("text-classification", {"a": 1}, "row 2: the label in 'label' is neither a name nor a list of names"),
        ("text-classification", "[a", "is not a JSON list"),
        ("token-classification", "PER", "is not a JSON list"),
        ("token-classification", [{"start": 0, "end": 99, "label": "X"}], "span 0–99, and its text 23 characters"),
        ("token-classification", [{"start": 0, "end": 3}], 'neither {"start", "end", "label"} nor a BIO tag'),
        ("token-classification", ["O"], "has 1 tags, and its text 5 words"),
        ("question-answering", 5, "is neither a text nor a list of texts"),
        ("summarization", [], "is an empty list"),
        ("similarity", "high", "is not a finite number"),
        ("similarity", True, "is not a finite number"),
    ],
)
def test_a_wrong_label_is_refused_by_file_and_row(task: str, label: Any, words: str, tmp_path: Path) -> None:
    """The rows before it are answered, and nothing is told of them."""
    good: dict[str, Any] = {"token-classification": [], "similarity": 1}
    pairs = [({"label": good.get(task, "a")}, one_label("a")), ({"label": label}, one_label("a"))]
    with pytest.raises(UsageError) as caught:
        judged(task, pairs, tmp_path / "f.jsonl")
    assert words in str(caught.value)
    assert "f.jsonl, row 2" in str(caught.value)


def test_labels_and_answers_that_can_not_be_compared(tmp_path: Path) -> None:
    """A mixture, an answer of another shape, and names that are all unknown."""
    mixed = [({"label": "a"}, one_label("a")), ({"label": ["a"]}, one_label("a"))]
    with pytest.raises(UsageError, match="row 2: the label is a list, and those before it are not"):
        judged("text-classification", mixed, tmp_path / "f.jsonl")
    with pytest.raises(UsageError, match=r"row 1: the label can't be compared: .* no field 'entities'"):
        judged("token-classification", [({"label": []}, {"label": "a"})], tmp_path / "f.jsonl")
    odd = {"label": "a", "scores": [{"name": "a"}]}
    with pytest.raises(
        UsageError, match="row 1: the model's answer does not have the fields of task text-classification"
    ):
        judged("text-classification", [({"label": "a"}, odd)], tmp_path / "f.jsonl")
    with pytest.raises(UsageError, match=r"no label of the files \(1\) .* gives \(a, b, c\).* --map 1=LABEL"):
        judged("text-classification", [({"label": 1}, one_label("a"))], tmp_path / "f.jsonl")


def test_rows_without_a_label_are_left_out_and_other_names_are_read(tmp_path: Path) -> None:
    """Of a table: empty cells; columns that are not there are named."""
    path = tmp_path / "f.csv"
    path.write_text("body,stars\nfine,5\nbad,\nugly,1\n")
    own = judge("text-classification", **{"5": "good", "1": "bad"})
    rows = LabelledRows([str(path)], io.BytesIO(), None, LabelFields("stars", "body"), own.read)
    rows.open()
    assert [json.loads(row.value or b"") for row in rows.read(10, 1 << 20)] == [{"text": "fine"}, {"text": "ugly"}]
    assert [rows.next_label().truth for _ in range(2)] == ["good", "bad"]
    assert (rows.labelled, rows.unlabelled) == (2, 1)
    for fields, flag in ((LabelFields("stars"), "--text-field"), (LabelFields("label", "body"), "--label-field")):
        with pytest.raises(UsageError, match=rf"has no column .* \(it has body, stars\).*{flag}"):
            LabelledRows([str(path)], io.BytesIO(), None, fields, own.read).open()


# --- slices, comparison, page ----------------------------------------------------------------------------------------


def test_slices_are_bounded() -> None:
    """Further groups are counted together, and lengths have fixed edges."""
    slices = Slices(most=2)
    for group in "abcd":
        slices.add(group, 1.0, 1.0)
    assert set(slices.groups) == {"a", "b", REST}
    assert slices.groups[REST].answered == 2
    assert [length_group(chars) for chars in (0, 24, 25, 3199, 3200, 10**6)] == [
        "0–24", "0–24", "25–49", "1600–3199", "3200 and more", "3200 and more",
    ]  # fmt: skip


def resampled(truth: list[str], first: list[str], second: list[str]) -> tuple[float, float]:
    """The interval of the difference of macro F1 as the definition says it: draw texts again."""
    draw = np.random.default_rng(1)
    labels = sorted(set(truth))
    a, b, c = (np.array(each) for each in (truth, first, second))
    found = []
    for _ in range(200):
        chosen = draw.integers(0, len(a), len(a))
        found.append(
            f1_score(a[chosen], c[chosen], labels=labels, average="macro")
            - f1_score(a[chosen], b[chosen], labels=labels, average="macro")
        )
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def test_the_bootstrap_draws_texts_in_pairs(tmp_path: Path) -> None:
    """Cells drawn at once give the interval of texts drawn one by one; the difference itself is scikit-learn's."""
    draw = random.Random(3)
    truth = draw.choices("abc", (5, 3, 2), k=400)
    first = [one if draw.random() < 0.75 else draw.choice("abc") for one in truth]
    second = [one if draw.random() < 0.85 else draw.choice("abc") for one in truth]
    cells: dict[tuple[str, ...], int] = {}
    for one, other, third in zip(truth, first, second, strict=True):
        cells[one, other, one, third] = cells.get((one, other, one, third), 0) + 1
    value, interval = f1_difference(cells)
    expected = f1_score(truth, second, average="macro") - f1_score(truth, first, average="macro")
    assert value == pytest.approx(expected, abs=1e-12)
    assert interval == pytest.approx(resampled(truth, first, second), abs=0.015)
    assert f1_difference(cells) == (value, interval), "the same seed, the same numbers"


def compared(tmp_path: Path, second_right: int) -> str:
    """The verdict on two models over 400 texts, of which the first has 300 right, the first ones."""
    kept = io.BytesIO()
    rows = [{"label": "a"}] * 400
    first, _ = judged(
        "text-classification",
        [(row, one_label("a" if at < 300 else "b")) for at, row in enumerate(rows)],
        tmp_path / "f.jsonl",
        kept=kept,
    )
    kept.seek(0)
    second, comparison = judged(
        "text-classification",
        [(row, one_label("a" if 400 - second_right <= at else "b")) for at, row in enumerate(rows)],
        tmp_path / "f.jsonl",
        other=kept,
    )
    assert comparison is not None
    first.model, second.model = "old", "new"
    return verdict(first, versus(first, second, comparison))


def test_which_model_is_better_or_that_it_can_not_be_told(tmp_path: Path) -> None:
    """By McNemar's test on the texts that one of both has right."""
    better, same, worse = (compared(tmp_path, right) for right in (350, 305, 200))
    assert better.startswith("new@ is better over 400 texts that both answered: accuracy +0.125")
    assert "only old@ is right about 50, only new@ about 100" in better
    assert same.startswith("it is unclear which model is better")
    assert worse.startswith("old@ is better")


def test_a_text_that_one_model_did_not_answer_is_left_out(tmp_path: Path) -> None:
    """And counted; the others stay with their own rows."""
    failed = {"error": {"code": "infer.exception", "message": ""}}
    rows, kept = [{"label": one} for one in "abc"], io.BytesIO()
    judged(
        "text-classification",
        zip(rows, [failed, one_label("b"), one_label("c")], strict=True),
        tmp_path / "f.jsonl",
        kept=kept,
    )
    kept.seek(0)
    answers = [one_label("a"), one_label("b"), failed]
    _, comparison = judged("text-classification", zip(rows, answers, strict=True), tmp_path / "f.jsonl", other=kept)
    assert comparison is not None
    assert (comparison.texts, comparison.left_out, comparison.only_first, comparison.only_second) == (1, 2, 0, 0)


def test_a_row_that_is_no_object_has_its_place_among_the_labels(tmp_path: Path) -> None:
    """It goes on to be refused as an event, and the answers after it meet their own labels."""
    path = tmp_path / "f.jsonl"
    path.write_text('nothing\n[1]\n{"text": "x", "label": "a"}\n')
    rows = LabelledRows([str(path)], io.BytesIO(), None, LabelFields("label"), judge("text-classification").read)
    assert [row.value for row in rows.read(10, 1 << 20)][:2] == [b"nothing", b"[1]"]
    assert [rows.next_label().truth for _ in range(3)] == [None, None, "a"]
    assert rows.labelled == 1


def test_a_page_escapes_what_it_shows(tmp_path: Path) -> None:
    """Labels, texts and groups are a stranger's words; and the page asks for nothing."""
    evil = "<script>alert('x')</script>\"'&"
    pairs = [({"label": "a", "text": evil, "by": evil}, one_label("b")), ({"label": evil, "by": "ok"}, one_label("a"))]
    found, _ = judged("text-classification", pairs, tmp_path / "f.jsonl", by="by")
    page = page_of(found, None, evil)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert") >= 5
    assert "default-src 'none'" in page
    assert "http" not in page.replace('http-equiv="', "")
    assert evil[:8] not in page
    found.worst = []
    assert "f.jsonl, row" not in page_of(found, None, "by")
