"""Drift on a real cluster: a baseline is saved from reports, the app judges against it, and says so where people look.
It remembers over a kill."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streamer.cli.health import health
from streamer.core.health.words import BaselineWord, DriftWord, StateWord
from streamer.core.report import Histogram, Report
from streamer.kafka.health_topics import read_words
from tests.conftest import Kafka
from tests.integration.health_reports import DEADLINE_S, MINUTE_MS, Bed, report

pytest.importorskip("faust", reason="needs the extra health")

WINDOW_MS = 5 * MINUTE_MS
RECORDS = 1_000
SUMS = {"counts": [10] * 20, "right": [8] * 20, "confidence": [8.0] * 20, "squares": 0.1, "outside": 0}
EVALUATION = {"revision": "abc123", "quality": {"calibration": SUMS}}


def usual(first: int, start_ms: int, share: float, pipeline: str = "mood") -> Report:
    """A window's report: this share of all answers is joy, and swings a little."""
    joy = round(RECORDS * share) + (start_ms // WINDOW_MS * 7 % 5 - 2) * 6
    made = report(pipeline, first, RECORDS, start_ms + MINUTE_MS)
    made.labels = {"joy": joy, "anger": RECORDS - joy}
    made.confidence = [0] * 10 + [RECORDS // 2] + [0] * 8 + [RECORDS // 2]
    made.text_chars = Histogram([(79, RECORDS // 2), (100, RECORDS // 2)], 90 * RECORDS, 100)
    return made


def command(config: Path, *words: str) -> str:
    """What `streamer health …` prints, or why it does nothing."""
    ran = CliRunner().invoke(health, [*words, "--config", str(config)])
    return str(ran.exception) if ran.exception else ran.output


def test_labels_that_move_are_found_and_named(kafka: Kafka, tmp_path: Path) -> None:
    """From "no baseline yet" over a saved one to an alarm: on the page, on the topic, in the metrics, and in the
    terminal. After a kill -9 it is the same drift since the same time, and nobody is called again."""
    bed = Bed(kafka.bootstrap_servers, tmp_path)
    end_ms = int(time.time() * 1000) // WINDOW_MS * WINDOW_MS
    starts = range(end_ms - 36 * WINDOW_MS, end_ms, WINDOW_MS)
    shares = [0.6] * 30 + [0.3] * 6
    bed.write(*(usual(RECORDS * at, starts[at], share) for at, share in enumerate(shares)), together=12)
    until = datetime.fromtimestamp(starts[30] / 1000, UTC).isoformat()
    with bed.app() as app:
        page = app.wait_for("/drift", lambda page: page["pipelines"])
        assert page["pipelines"]["mood"]["drifting_monitors"] is None
        assert page["pipelines"]["mood"]["what"].endswith(
            "no baseline yet; once all is as usual, save one: streamer health baseline save mood"
        )
        config = bed.config(1)
        assert "no baseline yet" in command(config, "baseline", "list")
        assert "too little for a baseline" in command(config, "baseline", "save", "mood", "--since", "30m")
        assert "saved: mood (model@abc123)" in command(config, "baseline", "save", "mood", "--steady", "--until", until)
        (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
        assert "calibrated by 200 labelled" in command(
            config, "baseline", "calibrate", "mood", f"{tmp_path}/evaluation.json"
        )
        page = app.wait_for("/drift", lambda page: page["pipelines"]["mood"]["drifting_monitors"])
        assert "--replace replaces it" in command(config, "baseline", "save", "mood")
        assert "abc123" in command(config, "baseline", "list")
        shown = command(config, "baseline", "show", "mood")
        assert "joy 60 % (18,000)" in shown and "tokens_per_character" in shown
        (told,) = page["pipelines"]["mood"]["revisions"]
        assert [one["monitor"] for one in told["monitors"] if one["state"] == "drift"] == ["label"]
        assert "label joy 60 % → " in page["pipelines"]["mood"]["what"]
        metrics = app.wait_for("/metrics", lambda text: 'rule="drift",severity="ticket"} 1.0' in text)
        assert 'streamer_health_monitor_drift{monitor="label",pipeline="mood",revision="abc123"} 1.0' in metrics
        app.wait_for("/metrics", lambda text: "streamer_health_estimated_accuracy{" in text and "} 0.8\n" in text)
        state, word = _words(bed)
        status = json.loads(command(config, "status", "--json"))["pipelines"][0]["drift"]
        assert status["state"] == "firing" and "label joy" in status["says"]

        app.kill()
        app.start()
        app.wait_for("/drift", lambda page: page["pipelines"].get("mood", {}).get("drifting_monitors"))
        again = _words(bed)
        assert (again[0].since_ms, again[1].since_ms) == (state.since_ms, word.since_ms)
        assert app.log.read_text().count('"an alarm"') == 1
    values = read_words(bed.kafka, bed.health).values()
    assert [one.records for one in values if isinstance(one, BaselineWord)] == [RECORDS * 30]


def _words(bed: Bed) -> tuple[StateWord, DriftWord]:
    """The state of the rule, and what the monitor of labels says, once it has said drift."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found: dict[str, Any] = read_words(bed.kafka, bed.health)
        state, word = found.get("mood/drift"), found.get("mood/drift/abc123/label")
        if state is not None and state.state == "firing" and word is not None and word.state == "drift":
            return state, word
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
