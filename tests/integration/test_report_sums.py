"""Reports add up to what a reader of the results counts, with a real model on a real Kafka, also where plans are rolled
back and made again."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.app.start import RunOptions, start
from streamer.config.load import load
from streamer.core.measures import share_bin
from streamer.core.pipeline.protocol import Settle
from streamer.core.settle.calls import Act, Asked, Call, Failed
from streamer.errors import ExitCode
from streamer.kafka.transactional_sink import TransactionalSink
from tests.acceptance.harness import PIPELINE, Given, Lab, wait_for
from tests.conftest import Kafka

MODEL = "package:streamer/demo/models/sentiment-micro"
TEXTS = [
    *(f"What a {word} day" for word in ("fine", "bad", "terrible", "lovely", "grey", "wet", "great")),
    "我今天很高兴",
    "Какой прекрасный день",
    " \n ",
    "12:30",
]


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


def total(reports: list[dict[str, Any]], name: str) -> list[int]:
    return [sum(column) for column in zip(*(report[name] for report in reports if name in report), strict=True)]


def test_reports_add_up_to_what_a_reader_counts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Margins and entropies by the scores that stand in the results, repeats, empty texts and scripts; two plans of
    some are rolled back and made again."""
    call, send = TransactionalSink._call, TransactionalSink._send_offsets
    plans: list[int] = []
    rolled_back = 0

    def noted(sink: TransactionalSink, asked: Asked, plan: Settle | None) -> Any:
        nonlocal rolled_back
        rolled_back += asked is Call.ABORT
        return call(sink, asked, plan)

    def broken(sink: TransactionalSink, *arguments: Any) -> None:
        plans.append(0)
        if len(plans) in (1, 3):
            sink._made.flush(30)  # librdkafka fails an assertion where it is let go while it adds partitions
            raise Failed(Act.STALE, "ILLEGAL_GENERATION")
        send(sink, *arguments)

    monkeypatch.setattr(TransactionalSink, "_call", noted)
    monkeypatch.setattr(TransactionalSink, "_send_offsets", broken)
    lab.topics(2)
    config = load(lab.config(MODEL, options={"top_k": 3}), {})
    assembly = start(config, PIPELINE, RunOptions())
    ended: list[ExitCode] = []
    driver = threading.Thread(target=lambda: ended.append(assembly.driver.run()))
    driver.start()
    try:
        for end in ("", "", "!"):  # computed once for many, in memory, and again
            lab.produce([Given(b"k", json.dumps({"text": text + end}).encode(), []) for text in TEXTS * 10])
            wait_for(lambda: lab.committed() == len(lab.given), "what was written")
    finally:
        assembly.driver.stop(10)
        driver.join(60)
        assembly.close(1)
    assert ended == [ExitCode.DONE]
    assert rolled_back == 2 and len(plans) > 3, "too few plans, or none rolled back: this proved nothing"
    reader = lab.reader()
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    results = [outcome.body for outcome in reader.outcomes]
    reports = [report for report in lab.read_reports() if "event" not in report]
    margins: Counter[int] = Counter()
    entropies: Counter[int] = Counter()
    for result in results:
        scores = [each["score"] for each in result["output"]["scores"]]
        margins[share_bin(scores[0] - scores[1])] += 1
        entropies[share_bin(-sum(score * math.log(score) for score in scores) / math.log(len(scores)))] += 1
    assert sum(report["results"] for report in reports) == len(results) == len(lab.given)
    assert total(reports, "margin") == [margins[index] for index in range(20)]
    assert total(reports, "entropy") == [entropies[index] for index in range(20)]
    texts = [json.loads(given.value or b"")["text"] for given in lab.given.values()]
    assert sum(report.get("empty", 0) for report in reports) == sum(map(str.isspace, texts)) > 0
    assert sum(report.get("repeats", 0) for report in reports) == len(texts) - len(set(texts))
    assert sum(report.get("unknown_tokens", 0) for report in reports) > 0
    scripts: Counter[str] = Counter()
    for report in reports:
        scripts.update(report["scripts"])
    assert scripts.keys() == {"latin", "han", "cyrillic", "none"}
