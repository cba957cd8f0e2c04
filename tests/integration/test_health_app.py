"""`streamer health run` on a real cluster: what it counts is what committed reports say, whatever becomes of it."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streamer.core.health.words import SnapshotWord, StateWord, WindowWord, decode
from streamer.core.report import Report
from streamer.kafka.reader import Reader
from tests.conftest import Kafka
from tests.integration.health_reports import DEADLINE_S, MINUTE_MS, App, Bed, report
from tests.otlp_receiver import otlp_receiver

pytest.importorskip("faust", reason="needs the extra health")


@pytest.fixture
def bed(kafka: Kafka, tmp_path: Path) -> Bed:
    """Topics of this test's own."""
    return Bed(kafka.bootstrap_servers, tmp_path)


def totals(page: dict[str, Any]) -> tuple[int, int]:
    """Results and dead letters of all windows."""
    return (
        sum(window.get("results", 0) for window in page["windows"]),
        sum(sum(window.get("dead_letters", {}).values()) for window in page["windows"]),
    )


def past_ms(minutes: int = 10) -> int:
    """The begin of a minute that has long ended."""
    return int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - minutes * MINUTE_MS


def test_what_does_not_count(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aborted reports, before the start and while it reads; other programs' records, and reports of a version to come:
    these are counted as such, and stop nothing. What it evaluated of the others is traced."""
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.url)
        _count_only_what_counts(bed)
    requests = [ExportTraceServiceRequest.FromString(body) for _, _, body in receiver.requests]
    found = [span for one in requests for span in one.resource_spans[0].scope_spans[0].spans]
    told = {(span.name, one.value.string_value) for span in found for one in span.attributes if "pipeline" in one.key}
    assert ("evaluate window", "mood") in told
    assert ("rule insufficient", "mood") in told
    assert {span.trace_id for span in found if span.parent_span_id} <= {
        span.trace_id for span in found if span.name == "evaluate"
    }


def _count_only_what_counts(bed: Bed) -> None:
    at_ms = past_ms()
    newer = msgspec.structs.replace(report("mood", 0, 10, at_ms), version="streamer.report.v9")
    bed.write(report("mood", 0, 10, at_ms, dead=1))
    bed.write_raw(b"\xff", b"[]", None, b"{}", msgspec.json.encode(newer))
    bed.write(report("mood", 10, 1000, at_ms), commit=False)
    with bed.app() as app:
        app.wait_for("/healthz", lambda page: page["ok"])
        bed.write(report("mood", 10, 500, at_ms), commit=False)
        bed.write(report("mood", 10, 5, at_ms))
        page = app.wait_for("/windows", lambda page: totals(page)[0] >= 14)
        assert totals(page) == (14, 1)
        text = app.wait_for("/metrics", bool)
        assert 'streamer_health_reports_total{outcome="unreadable"} 5.0' in text
        assert 'streamer_health_reports_total{outcome="new"} 2.0' in text
        app.process.terminate()
        assert app.process.wait(DEADLINE_S) == 0, app.log.read_text()


def test_killed_again_and_again_it_counts_the_truth(bed: Bed) -> None:
    """Five kills with -9 while two pipelines report; then a SIGTERM and a start from the snapshot. Every time the
    windows come to be those of a plain reader, and so do those on the topic."""
    begin_ms = past_ms(30)
    seed = random.Random(7)
    first = {("mood", 0): 0, ("mood", 1): 0, ("topic", 0): 0}
    reports: list[Report] = []
    for _ in range(1500):
        place = seed.choice([*first])
        records = seed.randrange(1, 90)
        at_ms = begin_ms + seed.randrange(20 * MINUTE_MS)
        dead = seed.randrange(2)
        reports.append(report(place[0], first[place], records, at_ms, dead=min(dead, records), partition=place[1]))
        first[place] += records
    writing = threading.Thread(target=bed.write, args=reports, kwargs={"together": 3})
    with bed.app() as app:
        writing.start()
        for _ in range(5):
            time.sleep(seed.uniform(0.3, 1.5))
            app.kill()
            app.start()
        writing.join()
        bed.write(*seed.sample(reports, 100), together=10)  # repeated, as nobody does: they change nothing
        truth = bed.truth()
        wanted = {
            (window["pipeline"], window["start_ms"]): window
            for name in ("mood", "topic")
            for window in json.loads(msgspec.json.encode(truth.windows(name, MINUTE_MS)))
        }
        _is_the_truth(bed, app, wanted)
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(30) == 0
        snapshots = [word for word in _words(bed).values() if isinstance(word, SnapshotWord)]
        assert len(snapshots) == 1
        app.start()
        _is_the_truth(bed, app, wanted)
        metrics = app.wait_for("/metrics", bool)
        assert 'streamer_health_reports_total{outcome="new"} 0.0' in metrics, "read from the snapshot on"


def _is_the_truth(bed: Bed, app: Any, wanted: dict[tuple[str, int], Any]) -> None:
    """What the app shows, and the last word on each window on its topic, once it has said all."""

    def as_wanted(page: Any) -> bool:
        return {(window["pipeline"], window["start_ms"]): window for window in page["windows"]} == wanted

    app.wait_for("/windows", as_wanted)
    deadline = time.monotonic() + 30
    said: dict[tuple[str, int], Any] = {}
    while said != wanted and time.monotonic() < deadline:
        words = [word for word in _words(bed).values() if isinstance(word, WindowWord) and word.length_ms == MINUTE_MS]
        said = {(word.pipeline, word.start_ms): word.window for word in words}
    assert said == wanted


def _words(bed: Bed) -> dict[str, Any]:
    """The last word on each key of the app's topic."""
    with Reader(bed.kafka, [bed.health]) as reader:
        return {(record.key() or b"").decode(): decode(record.value()) for record in reader.read_until_end()}


def test_two_apps_do_not_disturb_one_another(bed: Bed) -> None:
    """Each folds everything, and no group comes to be."""
    at_ms = past_ms()
    bed.write(*(report("mood", 10 * index, 10, at_ms) for index in range(50)), together=5)
    with bed.app() as one, bed.app() as two:
        for app in (one, two):
            app.wait_for("/windows", lambda page: totals(page)[0] == 500)
        one.kill()
        bed.write(report("mood", 500, 10, at_ms))
        two.wait_for("/windows", lambda page: totals(page)[0] == 510)
    groups = bed.admin.list_consumer_groups().result().valid
    assert not [group for group in groups if "health" in group.group_id]


def test_an_alarm_is_raised_and_ends(bed: Bed) -> None:
    """Dead letters make the default rule fire; a webhook is called once for its begin, and once for its end. A restart
    in between changes nothing of that."""
    calls: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            refused = not calls and not hook.refused
            hook.refused = True
            if not refused:
                calls.append(json.loads(body))
            self.send_response(503 if refused else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        refused = False

    hook = Server(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, args=(0.05,), daemon=True).start()
    health = f"""
webhook = "http://127.0.0.1:{hook.server_address[1]}/"
[health.rules.dead-letters]
for_s = 0
over_s = 60
"""
    now_ms = int(time.time() * 1000)
    bed.write(report("mood", 0, 1000, now_ms, dead=300))
    try:
        with bed.app(health=health) as app:
            _wait(app, lambda: len(calls) == 1)
            assert (calls[0]["rule"], calls[0]["state"], calls[0]["value"]) == ("dead-letters", "firing", 0.3)
            firing = _words(bed)["mood/dead-letters"]
            assert isinstance(firing, StateWord) and firing.state == "firing"
            app.kill()
            app.start()
            bed.write(report("mood", 1000, 100_000, int(time.time() * 1000)))
            _wait(app, lambda: len(calls) == 2)
            assert calls[1]["state"] == "ok"
            states = app.get("/states")["states"]
            assert [each["state"] for each in states if each["rule"] == "dead-letters"] == ["ok"]
    finally:
        hook.shutdown()
        hook.server_close()


def _wait(app: App, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline, app.log.read_text()
        time.sleep(0.1)
