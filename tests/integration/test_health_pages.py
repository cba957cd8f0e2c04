"""Model health on a real cluster, for who looks: the console follows the topic, and a page is written of it."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from streamer.cli.health import health
from streamer.config.load import load
from streamer.console import health as health_source
from streamer.console.health import Health
from streamer.core.health.pages.view import HealthView
from streamer.core.health.windows.fold import DAY_MS
from streamer.core.health.words import BaselineWord, StateWord, encode
from streamer.kafka.writer import Writer
from tests.conftest import Kafka
from tests.integration.health_reports import DEADLINE_S, MINUTE_MS, Bed, report
from tests.made_health import NEW, words
from tests.waiting import wait_for


def command(config: Path, *arguments: str) -> str:
    """What `streamer health report` prints, or why it writes nothing."""
    ran = CliRunner().invoke(health, ["report", *arguments, "--config", str(config)])
    return str(ran.exception) if ran.exception else ran.output


def test_what_the_app_writes_is_shown(kafka: Kafka, tmp_path: Path) -> None:
    """Before there is a topic the console says so, and a page is made of the reports. Then both show what the topic
    says, the console as it comes: windows, drift, quality, and that a baseline was taken back."""
    bed = Bed(kafka.bootstrap_servers, tmp_path)
    file, page = bed.config(1), tmp_path / "page.html"
    assert "nothing was settled in the last day" in command(file, "--html", str(page))
    now_ms = time.time_ns() // 1_000_000
    bed.write(*(report("mood", 100 * at, 100, now_ms - at * MINUTE_MS) for at in range(20)), together=20)
    assert re.match("mood: can't tell; no baseline yet: it takes 1,000 results", command(file, "--html", str(page)))
    assert f"From the topic {bed.reports}" in page.read_text()
    assert "knows of a pipeline nobody; there are: mood" in command(file, "nobody", "--html", str(page))
    assert "a folder that may be written to" in command(file, "--html", str(tmp_path / "none" / "page.html"))

    shown = Health(load(file))
    stop, errors, answered = threading.Event(), list[str](), threading.Event()
    follower = threading.Thread(target=shown.follow, args=(stop, errors.append, answered.set), daemon=True)
    missing = threading.Thread(target=shown.follow, args=(stop, errors.append, answered.set), daemon=True)
    missing.start()
    wait_for(lambda: bool(errors))
    assert errors == [f"there is no topic {bed.health}, the health app has not run here"]
    bed.make(bed.health, 1)
    said = list(words("mood", now_ms))
    with Writer(bed.kafka) as writer:
        for at, (key, word) in enumerate(said[:-1]):
            written_ms = now_ms - 2 * DAY_MS if at < len(said) // 2 else now_ms
            writer.write(bed.health, encode(word), key=key.encode(), timestamp_ms=written_ms)
        writer.write(bed.health, b"of another program", key=b"mood/drift/x")
        writer.flush()
        follower.start()
        try:
            assert answered.wait(DEADLINE_S)
            wait_for(lambda: bool((found := shown.picture("mood", "5m", now_ms)) and found.whole))
            found = shown.picture("mood", "5m", now_ms)
            assert found is not None
            assert re.match(r"label complaint 1\d % → 2\d %", found.headline.what)
            assert (len(found.series), found.quality[0].labels) == (2, 900)
            (baseline,) = [key for key, word in said if isinstance(word, BaselineWord)]
            writer.write(bed.health, None, key=baseline.encode())
            key, word = said[-1]
            assert isinstance(word, StateWord)
            writer.write(bed.health, encode(word), key=key.encode())
            writer.flush()
            wait_for(lambda: len(shown.picture("mood", "1h", now_ms).rules) == 3)  # type: ignore[union-attr]
            found = shown.picture("mood", "1h", now_ms)
            assert found is not None
            assert NEW not in found.baselines
            assert [line["name"] for line in shown.overview(now_ms)["pipelines"]] == ["mood"]
        finally:
            stop.set()
            follower.join()
            missing.join()
    assert re.match(r"mood: drift; label complaint 1\d %", command(file, "mood", "--html", str(page)))
    assert "There is no baseline yet." in page.read_text()
    assert f"From the topic {bed.health}" in page.read_text()


def test_of_what_is_old_only_so_much_is_read(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the topic is: two weeks, and some records before them, in which a baseline is found. Where that is
    not the beginning it is said, since a baseline may be missing for that."""
    monkeypatch.setattr(health_source, "OLDER_RECORDS", 4)
    bed = Bed(kafka.bootstrap_servers, tmp_path)
    new = NewTopic(bed.health, 1, config={"cleanup.policy": "compact"})  # else what is old is deleted
    bed.admin.create_topics([new])[bed.health].result()
    now_ms = time.time_ns() // 1_000_000
    said = list(words("mood", now_ms))
    (baseline,) = [word for _, word in said if isinstance(word, BaselineWord)]
    lost = msgspec.structs.replace(baseline, revision="lost")
    read = list[str]()
    take = health_source._take

    def noted(view: HealthView, key: str, value: bytes | None, now_ms: int) -> set[str]:
        read.append(key)
        return take(view, key, value, now_ms)

    monkeypatch.setattr(health_source, "_take", noted)
    old = [(lost.key, encode(lost)), *((f"old/{at}", b"") for at in range(50)), (baseline.key, encode(baseline))]
    with Writer(bed.kafka) as writer:
        for key, value in [*old, ("old/50", b"")]:
            writer.write(bed.health, value, key=key.encode(), timestamp_ms=now_ms - 15 * DAY_MS)
        for key, word in said:
            if not isinstance(word, BaselineWord):
                writer.write(bed.health, encode(word), key=key.encode(), timestamp_ms=now_ms)
        writer.flush()
    shown, stop = Health(load(bed.config(1))), threading.Event()
    follower = threading.Thread(target=shown.follow, args=(stop, print, lambda: None), daemon=True)
    follower.start()
    try:
        wait_for(lambda: bool((found := shown.picture("mood", "5m", now_ms)) and found.whole))
        found = shown.picture("mood", "5m", now_ms)
        assert found is not None
        assert found.cut
        assert found.baselines.keys() == {baseline.revision}
        assert len([key for key in read if key.startswith("old/")]) <= 4
    finally:
        stop.set()
        follower.join()
