"""`streamer evaluate`: real weights over human labels; the numbers are scikit-learn's of the same answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, precision_recall_fscore_support

from streamer.demo import model_directory
from tests.acceptance.browser import OUTPUT, PHONE, WIDE, chromium, opened
from tests.acceptance.harness import OBEDIENT, ROOT

SENTIMENT = ["--task", "text-classification", "--model", str(model_directory())]
LSTM = "python:streamer.demo.lstm:LstmSentiment"
TEXTS = 400
SECRET = "Zanzibar <b>bold</b>"
CLOSE = 1e-12


def streamer(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    command = [sys.executable, "-m", "streamer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tweets with the sign of their human score; two rows that get no answer, and some without a label."""
    path = tmp_path_factory.mktemp("labelled") / "tweets.jsonl"
    rows: list[Any] = []
    for line in (ROOT / "streamer/demo/data/tweets.jsonl").read_text().splitlines()[:TEXTS]:
        row = json.loads(line)
        score = row["metadata"]["human_score"]
        label = None if abs(score) < 0.2 else "positive" if score > 0 else "negative"
        rows.append({"id": row["id"], "text": row["text"], "mood": {"label": label}, "part": "ab"[len(rows) % 2]})
    rows[10] = {"text": "", "mood": {"label": "positive"}, "part": "a"}
    rows[11] = {"text": f"{SECRET} awful terrible bad", "mood": {"label": "positive"}, "part": "b"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no json\n")
    return path


@pytest.fixture(scope="module")
def evaluated(labelled: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """What one evaluation says as JSON, and its folder with a page and a baseline."""
    folder = labelled.parent
    outputs = ["--html", str(folder / "page.html"), "--save-baseline", str(folder / "baseline.json")]
    asked = ["--label-field", "mood.label", "--by", "part", "--against", LSTM, *outputs]
    done = streamer("evaluate", str(labelled), *SENTIMENT, *asked, "--json", expect=4)
    yield json.loads(done.stdout), folder


def test_the_numbers_are_those_of_scikit_learn(evaluated: tuple[dict[str, Any], Path], labelled: Path) -> None:
    """`streamer infer` gives the answers, scikit-learn the numbers; all rows are accounted for."""
    found, folder = evaluated
    answers = folder / "answers.jsonl"
    streamer("infer", str(labelled), *SENTIMENT, "-o", str(answers), expect=4)
    rows = [json.loads(line) if line.startswith("{") else {} for line in labelled.read_text().splitlines()]
    outputs = [json.loads(line).get("output") for line in answers.read_text().splitlines()]
    pairs = [
        (row["mood"]["label"], output)
        for row, output in zip(rows, outputs, strict=True)
        if output is not None and row["mood"]["label"] is not None
    ]
    truth, predicted = [label for label, _ in pairs], [output["label"] for _, output in pairs]
    unlabelled = sum(row.get("mood", {}).get("label", "") is None for row in rows)
    metrics, quality = found["metrics"], found["quality"]
    assert (quality["answered"], found["unlabelled"]) == (len(pairs), unlabelled)
    assert quality["failed"] == {"validate.empty_text": 1, "decode.json": 1}
    assert quality["answered"] + 2 + unlabelled == len(rows), "no row is dropped silently"
    labels = ["negative", "positive"]
    cells = [[quality["confusion"]["cells"][one].get(other, 0) for other in labels] for one in labels]
    assert cells == confusion_matrix(truth, predicted, labels=labels).tolist()
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted), abs=CLOSE)
    assert metrics["accuracy_of_all"] == pytest.approx(accuracy_score(truth, predicted) * len(pairs) / (len(pairs) + 2))
    for average in ("micro", "macro", "weighted"):
        theirs = precision_recall_fscore_support(truth, predicted, average=average)[:3]
        assert [metrics[f"{name}_{average}"] for name in ("precision", "recall", "f1")] == pytest.approx(
            theirs, abs=CLOSE
        )
    each = precision_recall_fscore_support(truth, predicted, labels=labels)
    for place, label in enumerate(labels):
        ours = [metrics[f"{name}.{label}"] for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx([column[place] for column in each[:3]], abs=CLOSE)
    right = [one == other for one, other in zip(truth, predicted, strict=True)]
    confidence = [output["score"] for _, output in pairs]
    # The rows without a label were in no batch of the evaluation's.
    assert metrics["brier"] == pytest.approx(brier_score_loss(right, confidence), abs=1e-3)
    assert sum(one["answered"] for one in found["by_field"].values()) == len(pairs)
    assert found["headline"].startswith(f"accuracy {metrics['accuracy']:.3f} (95 % interval ")


def test_two_models_are_compared_on_the_same_rows(evaluated: tuple[dict[str, Any], Path]) -> None:
    """Both evaluations, and the difference with what is certain of it."""
    found, _ = evaluated
    other = found["against"]
    assert other["texts"] == found["quality"]["answered"] == other["evaluation"]["quality"]["answered"]
    difference = other["evaluation"]["metrics"]["accuracy"] - found["metrics"]["accuracy"]
    assert other["difference"]["value"] == pytest.approx(difference, abs=CLOSE)
    assert other["only_second"] - other["only_first"] == round(difference * other["texts"])
    assert other["difference"]["low"] < difference < other["difference"]["high"]
    assert other["f1"]["low"] < other["f1"]["value"] < other["f1"]["high"]
    assert 0 <= other["p"] <= 1
    assert (other["winner"] is not None) == (other["p"] < 0.05)


def test_no_text_is_shown_unless_asked_for(evaluated: tuple[dict[str, Any], Path], labelled: Path) -> None:
    """Neither printed, nor in the page, nor in the baseline; with --show-text it is."""
    found, folder = evaluated
    written = [json.dumps(found), (folder / "page.html").read_text(), (folder / "baseline.json").read_text()]
    assert not any("Zanzibar" in one for one in written)
    page = folder / "shown.html"
    asked = ["--label-field", "mood.label", "--show-text", "--html", str(page), "--min", "accuracy=0.999"]
    done = streamer("evaluate", str(labelled), *SENTIMENT, *asked, "--max", "recall.negative=0.1", expect=9)
    assert SECRET in done.stdout
    assert "Zanzibar &lt;b&gt;bold&lt;/b&gt;" in page.read_text()
    assert "label: positive; answer: negative" in done.stdout
    assert "--min asks for 0.999" in done.stderr
    assert "recall.negative is" in done.stderr


def test_the_page_in_a_browser(evaluated: tuple[dict[str, Any], Path]) -> None:
    """Nothing is loaded, nothing is wider than the window, and what has no text has words for it."""
    _, folder = evaluated
    OUTPUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        for name, size, scheme in (("wide", WIDE, "light"), ("dark", WIDE, "dark"), ("phone", PHONE, "light")):
            with opened(browser, (folder / "page.html").as_uri(), viewport=size, color_scheme=scheme) as page:
                assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
                assert page.evaluate("performance.getEntriesByType('resource').length") == 0
                assert page.locator("h1").inner_text().startswith("Accuracy 0.")
                titles = [
                    "Which model is better?",
                    "What is taken for what?",
                    "Can its confidence be trusted?",
                    "By part",
                ]
                for title in titles:
                    assert page.get_by_role("heading", name=title).is_visible()
                assert page.get_by_role("img").count() == 3
                page.screenshot(path=OUTPUT / f"evaluate-{name}.png", full_page=True)
        browser.close()


def test_what_is_wrong_with_labels_is_said_by_file_and_row(tmp_path: Path) -> None:
    """Exit code 2, in the first row before a model is loaded, in a later one after it."""
    path = tmp_path / "f.jsonl"
    model = ["--task", "text-classification", "--model", OBEDIENT]
    for rows, place in (([{"a": 1}, "negative"], "row 1"), (["positive", {"a": 1}], "row 2")):
        path.write_text("".join(json.dumps({"text": "1", "label": row}) + "\n" for row in rows))
        done = streamer("evaluate", str(path), *model, expect=2)
        assert f"f.jsonl, {place}: the label in 'label' is neither a name nor a list of names" in done.stderr
        assert not done.stdout
