"""One bad record never harms its neighbours."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from streamer import demo
from tests.acceptance.harness import Given, Lab, Outcome, Place, check, event, wait_for
from tests.conftest import Kafka

TOLERANCE = 0.03  # a model card of text-classification: of a probability
LARGE_TOPIC = {"max.message.bytes": "3000000"}
LARGE_DEAD_LETTERS = {"max.message.bytes": "3064000"}
SMALL_TOPIC = {"max.message.bytes": "6000"}
GOOD = 2_000

Expected = dict[Place, str]


@pytest.mark.case(17, 21, 23)
@pytest.mark.promise(5)
def test_poison_among_good_records_of_a_transformer(lab: Lab, kafka: Kafka) -> None:
    """Each of fifteen kinds of poison becomes a dead letter with its own code, byte for byte, or a counted skip; the
    2,000 good records have the answers that they have without it."""
    good = [Given(key, value, []) for key, value in islice(demo.events(), GOOD)]
    poison = {one.name: (Given(b"poison", one.value, one.headers), one.expect) for one in demo.poison()}
    large = json.dumps({"text": "word " * 400_000}).encode()
    assert len(large) > 2_000_000
    poison["two-megabytes"] = (Given(b"poison", large, []), "infer.too_long")
    fat = json.dumps({"text": "fine", "metadata": {"fat": "x" * 7_000}}).encode()
    poison["fat-result"] = (Given(b"poison", fat, []), "publish.too_large")
    model: dict[str, Any] = {"model": str(demo.model_directory()), "on_overflow": "reject"}
    folder = Path(lab.folder / "clean")
    folder.mkdir()
    with Lab(kafka.bootstrap_servers, folder) as clean:
        for each in (lab, clean):
            each.topics(2, input=LARGE_TOPIC, output=SMALL_TOPIC, dead_letter=LARGE_DEAD_LETTERS)
        clean.produce(good)
        expected = _produce_mixed(lab, good, list(poison.values()))
        readers = lab.reader(), clean.reader()
        runs = [each.start(each.config(**model), "--until-end") for each in (lab, clean)]
        assert [run.wait(120) for run in runs] == [0, 0], runs[0].log
        skipped = sum(code == "skipped" for code in expected.values())
        wait_for(lambda: readers[0].count == GOOD + len(poison) - skipped, "all outcomes")
        wait_for(lambda: readers[1].count == GOOD, "all outcomes of the clean run")
    anomalies = check(lab.given, readers[0].outcomes, lambda place: expected.get(place, ""))
    assert not anomalies, str(anomalies)
    _assert_same_answers(readers[0].outcomes, readers[1].outcomes)
    reports = lab.read_reports()
    assert sum(report["skipped"].get("tombstone", 0) for report in reports) == skipped == 1
    assert sum(report["results"] for report in reports) == GOOD
    counted = sum(sum(report["dead_letters"].values()) for report in reports)
    assert counted == len(poison) - skipped


@pytest.mark.case(17, 27, 30, 31)
@pytest.mark.promise(5)
def test_texts_that_raise_kill_hang_and_bloat(lab: Lab) -> None:
    """Texts that make the model raise, die, hang, give NaN or an answer that is too large are dead letters with these
    codes; nobody else is convicted."""
    lab.topics(2, output={"max.message.bytes": "200000"})
    words = {
        "RAISE": "infer.exception",
        "SEGV": "infer.worker_killed",
        "HANG": "infer.worker_hung",
        "NAN": "infer.nan",
        "HUGE": "publish.too_large",
    }
    poison = [(event(5_000 + number, word), code) for number, (word, code) in enumerate(words.items())]
    expected = _produce_mixed(lab, [event(number, "GOOD") for number in range(GOOD)], poison)
    reader = lab.reader()
    run = lab.start(lab.config(lease_s=1.0), "--until-end")
    assert run.wait() == 0, run.log
    wait_for(lambda: reader.count == len(lab.given), "all outcomes")
    anomalies = check(lab.given, reader.outcomes, lambda place: expected.get(place, ""))
    assert not anomalies, str(anomalies)


def _produce_mixed(lab: Lab, good: list[Given], poison: list[tuple[Given, str]]) -> Expected:
    """Spread the poison evenly; returns the code of each poison record's place."""
    records: list[tuple[Given, str]] = [(record, "") for record in good]
    step = len(good) // (len(poison) + 1)
    for number, one in enumerate(poison, 1):
        records.insert(number * step + number, one)
    places = lab.produce(record for record, _ in records)
    return {place: code for place, (_, code) in zip(places, records, strict=True) if code}


def _assert_same_answers(outcomes: list[Outcome], clean: list[Outcome]) -> None:
    """Label and score of each good record are those of the clean run, within the model's tolerance."""
    answers, wanted = _by_id(outcomes), _by_id(clean)
    assert answers.keys() == wanted.keys()
    for name, output in answers.items():
        assert output["label"] == wanted[name]["label"], name
        assert abs(output["score"] - wanted[name]["score"]) <= TOLERANCE, name


def _by_id(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    return {outcome.body["id"]: outcome.body["output"] for outcome in outcomes if not outcome.code}
