"""A real model on a real Kafka whose texts change, and one whose labels are exchanged: what its reports and results say
is what monitors, the estimated accuracy and the realised one tell. Only the reports' times are made up."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer import demo
from streamer.app.start import RunOptions, start
from streamer.config.load import load
from streamer.core.health.drift.baseline import Baseline
from streamer.core.health.drift.estimate import expected
from streamer.core.health.drift.finding import Finding, alpha_of
from streamer.core.health.drift.watch import Watch
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.evidence import One
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import FIVE_MINUTES_MS, Fold
from streamer.core.health.windows.window import Window, merged
from streamer.core.report import Report
from tests.acceptance.harness import PIPELINE, Given, Lab, Reader, wait_for
from tests.conftest import Kafka
from tests.health_kit import NOW_MS

SETTLE = 64
"""A report looks at the scripts of so many texts."""
LOOK = 5 * SETTLE
STARTS = [*range(0, 1_600, 160), *range(1_600, 4_000, LOOK)]
"""The first event of each window."""
USUAL = range(1_600)
SAME = range(USUAL.stop, USUAL.stop + 2 * LOOK)
MIXED = range(SAME.stop, SAME.stop + 2 * LOOK)
EXCHANGED = range(MIXED.stop, MIXED.stop + 2 * LOOK)
CYRILLIC = str.maketrans("abcdefghijklmnoprstuvyz", "абцдефгхийклмнопрстувыз")


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        lab.topics(1)
        yield lab


def tweets(places: range) -> list[dict[str, Any]]:
    """Real tweets in a row; after the last one comes the first."""
    known = [json.loads(value) for _, value in demo.events()]
    return [known[place % len(known)] for place in places]


def in_another_mix(tweet: dict[str, Any]) -> dict[str, Any]:
    """Two in five are in Cyrillic letters."""
    foreign = hashlib.sha256(tweet["text"].encode()).digest()[0] < 0.4 * 256
    return {**tweet, "text": tweet["text"].lower().translate(CYRILLIC)} if foreign else tweet


@contextmanager
def running(config: Path) -> Iterator[None]:
    """The pipeline, until the block ends."""
    assembly = start(load(config, {}), PIPELINE, RunOptions())
    driver = threading.Thread(target=assembly.driver.run)
    driver.start()
    try:
        yield
    finally:
        assembly.driver.stop(10)
        driver.join(60)
        assembly.close(1)


def settle(lab: Lab, reader: Reader, events: Sequence[dict[str, Any]], together: int = SETTLE) -> None:
    """Write events, so many at a time: they are settled before the next ones come."""

    def paced() -> Iterator[Given]:
        for number, event in enumerate(events, 1):
            yield Given(None, json.dumps(event).encode(), [])
            if number % together == 0:
                wait_for(lambda: reader.count == len(lab.given), "what was written")

    lab.produce(paced())


def windows_of(lab: Lab, places: range) -> list[Window]:
    """The windows of five minutes of these events, had those of a window come in its time."""
    fold = Fold()
    for body in lab.read_reports():
        report = msgspec.convert(body, Report)
        if report.ranges and (first := report.ranges[0][2]) in places:
            report.time_ms = NOW_MS + bisect_right(STARTS, first) * FIVE_MINUTES_MS
            fold.add(report)
    return fold.windows(PIPELINE, FIVE_MINUTES_MS)


def said(baseline: Baseline, windows: Sequence[Window]) -> list[Finding]:
    """What the monitors say of windows, after the last one."""
    watch, alpha = Watch(), alpha_of(1, len(baseline.references), FIVE_MINUTES_MS)
    return [watch.look(window, baseline, alpha) for window in windows][-1]


def realised(lab: Lab, reader: Reader, places: range) -> Quality:
    """How right the answers to these events were, by the people who rated the tweets."""
    quality = Quality()
    for outcome in reader.outcomes:
        at = outcome.place.offset
        rating = json.loads(lab.given[outcome.place].value or b"")["metadata"]["human_score"]
        if at in places and abs(rating) >= 1:
            given = outcome.body["output"]
            quality.count(One("positive" if rating > 0 else "negative", given["label"], given["score"]), b"")
    return quality


def accuracy(quality: Quality) -> float:
    """The realised one."""
    found = quality.metrics()["accuracy"]
    assert found is not None
    return found


def estimated(lab: Lab, places: range, calibration: Calibration | None) -> float:
    """The accuracy that the confidence of these answers lets one expect."""
    found = expected(merged(windows_of(lab, places)).confidence, calibration)
    assert found is not None
    return found


@pytest.mark.promise(13)
@pytest.mark.slow
@pytest.mark.every_way
def test_another_mix_is_named_and_exchanged_labels_cost_accuracy(lab: Lab, tmp_path: Path) -> None:
    """Usual tweets raise nothing. In another script they are named so. A model whose labels are exchanged is as sure as
    before: only what people say tells it from the one before, and its own measured calibration does."""
    other = shutil.copytree(demo.model_directory(), tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    settings |= {"id2label": {"0": "positive", "1": "negative"}, "label2id": {"positive": 0, "negative": 1}}
    (other / "config.json").write_text(json.dumps(settings))
    reader = lab.reader()
    with running(lab.config(str(demo.model_directory()))):
        settle(lab, reader, tweets(USUAL), together=160)
        settle(lab, reader, tweets(SAME))
        settle(lab, reader, [in_another_mix(tweet) for tweet in tweets(MIXED)])
    with running(lab.config(str(other))):
        settle(lab, reader, tweets(EXCHANGED), together=LOOK)

    baseline = Baseline.of(windows_of(lab, USUAL))
    assert baseline is not None
    states = {one.monitor: one.state for one in said(baseline, windows_of(lab, SAME))}
    assert states["script"] == "ok" and "drift" not in states.values()
    moved = [one for one in said(baseline, windows_of(lab, MIXED)) if one.state == "drift"]
    assert moved[0].monitor == "script"
    assert moved[0].what.startswith("script latin 100 % → ")

    known = realised(lab, reader, USUAL).calibration
    same, exchanged = (realised(lab, reader, places) for places in (SAME, EXCHANGED))
    assert estimated(lab, SAME, known) == pytest.approx(accuracy(same), abs=0.1)
    assert estimated(lab, EXCHANGED, known) == pytest.approx(estimated(lab, SAME, known), abs=0.1)
    assert accuracy(exchanged) < 0.3
    measured = realised(lab, reader, EXCHANGED[:LOOK]).calibration
    assert estimated(lab, EXCHANGED[LOOK:], measured) == pytest.approx(accuracy(exchanged), abs=0.1)
