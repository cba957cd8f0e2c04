"""The health app is killed again and again while two pipelines run: what it counts is what a plain reader finds, and
the pipelines notice nothing. STREAMER_TEST_HEALTH_EVENTS sets the number of events."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from streamer.config.fields import KafkaConfig
from streamer.core.health.quality.evidence import One
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import LENGTHS, Fold
from streamer.core.report import Report
from streamer.kafka.reader import Reader
from streamer.local.ports import free_ports
from tests.acceptance.harness import Given, Lab, check, wait_for
from tests.integration.health_reports import App
from tests.python_models import LABELS

pytest.importorskip("faust", reason="needs the extra health")

EVENTS = int(os.environ.get("STREAMER_TEST_HEALTH_EVENTS", "3000"))
KILLS = 5
PIPELINES = ("p", "q")
MODEL = "python:tests.python_models:Counted"


class Critic(threading.Thread):
    """Says what is right of random events, while they are written, and often before they have a result."""

    def __init__(self, lab: Lab, topic: str) -> None:
        super().__init__(daemon=True)
        self.last: dict[tuple[str, int, int], tuple[int, str]] = {}
        self.said = Counter[str]()
        self._lab, self.topic, self._random = lab, topic, random.Random(11)
        self._producer = Producer({"bootstrap.servers": lab.bootstrap_servers})
        self._begin_ms = int(time.time() * 1000)

    def run(self) -> None:
        """Some labels for every event, some of them twice, and some messages that are none."""
        for number in range(EVENTS // 10):
            self._label(number)
            if number % 20 == 0:
                self.said["refused"] += 1
                self._say({"id": "secret"})
                self.said["unknown"] += 1
                self._say({"ce_id": f"p/{self._lab.input}.other/0/{number}", "label": "joy"})
            if number % (EVENTS // 300) == 0:
                self._producer.flush()
                time.sleep(0.15)
        self._producer.flush()

    def _label(self, number: int) -> None:
        draw = self._random
        place = draw.choice(PIPELINES), number % 2, draw.randrange(EVENTS // 2)
        time_ms = self._begin_ms - draw.randrange(10**6)
        label = draw.choice(LABELS)
        pipeline, partition, offset = place
        self.said["labels"] += 1
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms // 1000)) + f".{time_ms % 1000:03d}Z"
        self._say({"ce_id": f"{pipeline}/{self._lab.input}/{partition}/{offset}", "label": label, "time": stamp})
        if time_ms >= self.last.get(place, (0, ""))[0]:
            self.last[place] = time_ms, label

    def _say(self, body: dict[str, Any]) -> None:
        self._producer.produce(self.topic, json.dumps(body))


@pytest.mark.promise(13)
def test_killed_again_and_again_its_numbers_are_those_of_a_plain_reader(lab: Lab) -> None:
    """Windows of all lengths, outcomes of feedback, and the confusion matrix."""
    lab.topics(2)
    out, feedback = f"{lab.name}.q.out", f"{lab.name}.feedback"
    lab.create({out: {}, f"{out}.dlq": {}, feedback: {}}, 2)
    (port,) = free_ports(1)
    fields = {name: lab.pipeline(MODEL) for name in PIPELINES}
    fields["q"] |= {"output": out, "dead_letter": f"{out}.dlq", "group": f"{lab.group}.q", "partitioning": "key"}
    config = lab.write_config(fields)
    health = {"topic": f"{lab.name}.health", "feedback": feedback, "http": f"127.0.0.1:{port}"}
    with config.open("a") as file:
        file.write("\n[health]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in health.items()))
    reader = lab.reader()
    run = lab.start(config)
    app = App(config, port, lab.folder / "health.log")
    critic = Critic(lab, feedback)
    draw = random.Random(3)
    try:
        critic.start()
        for part in range(KILLS):
            first = EVENTS * part // KILLS
            lab.produce(_event(number) for number in range(first, EVENTS * (part + 1) // KILLS))
            if part % 2:  # else it may be killed before it has begun
                app.wait_for("/windows", lambda _: True)
            time.sleep(draw.uniform(0.2, 1.5))
            app.kill()
            app.start()
        critic.join()
        wait_for(lambda: reader.count >= EVENTS, "all results", run=run)
        anomalies = check(lab.given, reader.outcomes, lambda _: "")
        assert not anomalies, str(anomalies)
        wait_for(lambda: len(_results(lab, out)) == EVENTS, "all results of q", run=run)
        assert run.stop() == 0, run.log
        truth = _truth(lab)
        for length_ms in LENGTHS:
            wanted = json.loads(msgspec.json.encode([w for name in PIPELINES for w in truth.windows(name, length_ms)]))
            wanted.sort(key=lambda window: (window["start_ms"], window["pipeline"]))
            app.wait_for(f"/windows?length_ms={length_ms}", lambda page, wanted=wanted: page["windows"] == wanted)
        _check_feedback(lab, app, critic, out)
    finally:
        app.kill()
    assert "secret" not in app.log.read_text()


def _check_feedback(lab: Lab, app: App, critic: Critic, out: str) -> None:
    def settled(page: dict[str, Any]) -> bool:
        outcomes = [page["pipelines"].get(name, {"outcomes": {}})["outcomes"] for name in PIPELINES]
        done = sum(count for each in outcomes for outcome, count in each.items() if outcome != "early")
        return bool(done == critic.said["labels"])

    page = app.wait_for("/feedback", settled)["pipelines"]
    assert page[""]["outcomes"] == {"refused": critic.said["refused"], "unknown": critic.said["unknown"]}
    quality = app.get("/quality")
    for name, output in (("p", lab.output), ("q", out)):
        wanted = Quality()
        own = {place[1:]: label for place, (_, label) in critic.last.items() if place[0] == name}
        given = _results(lab, output)
        for place, label in own.items():
            wanted.count(One(label, given[place]["label"], given[place]["score"]), b"")
        outcomes = page[name]["outcomes"]
        assert (outcomes["matched"], page[name]["waiting"]) == (len(own), 0)
        (total,) = [each for each in quality["totals"] if each["pipeline"] == name]
        assert total["labels"] == len(own)
        assert total["results"] == EVENTS
        assert wanted.confusion is not None and total["confusion"] == wanted.confusion.cells
        assert total["metrics"]["f1_macro"] == pytest.approx(wanted.metrics()["f1_macro"], abs=1e-12)
        assert total["metrics"]["ece"] == pytest.approx(wanted.metrics()["ece"], abs=1e-12)
    letters = wait_for(lambda: _letters(lab, f"{critic.topic}.dlq", critic.said["refused"]), "the dead letters")
    assert set(letters) == {b"feedback.verdict"}


def _letters(lab: Lab, topic: str, least: int) -> Counter[bytes] | None:
    """The codes of dead letters, once all are there; a kill may write one twice."""
    with Reader(KafkaConfig(bootstrap_servers=lab.bootstrap_servers), [topic]) as reader:
        headers = [dict(letter.headers() or []) for letter in reader.read_until_end()]
    found = Counter(each["streamer.error.code"] or b"" for each in headers)
    return found if found.total() >= least else None


def _event(number: int) -> Given:
    return Given(b"k%d" % number, json.dumps({"text": str(number)}).encode(), [])


def _results(lab: Lab, output: str) -> dict[tuple[int, int], dict[str, Any]]:
    found = {}
    with Reader(KafkaConfig(bootstrap_servers=lab.bootstrap_servers), [output]) as reader:
        for record in reader.read_until_end():
            body = json.loads(record.value() or b"")
            found[body["source"]["partition"], body["source"]["offset"]] = body["output"]
    return found


def _truth(lab: Lab) -> Fold:
    fold = Fold()
    with Reader(KafkaConfig(bootstrap_servers=lab.bootstrap_servers), [lab.reports]) as reader:
        for record in reader.read_until_end():
            fold.add(msgspec.json.decode(record.value() or b"", type=Report))
    return fold
