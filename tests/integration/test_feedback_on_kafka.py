"""Feedback on a real cluster: results are found without reading the topic, and each message gets its outcome."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streamer.config.load import load
from streamer.core.health.feedback.join import Absent, Result
from streamer.core.health.feedback.memory import assembled
from streamer.core.health.windows.fold import DAY_MS
from streamer.core.health.words import FeedbackWord, PartWord, QualityWord, decode
from streamer.health.feedback.labels import MOST_FRESH
from streamer.health.silence import Silence
from streamer.kafka.health_topics import read_words
from streamer.kafka.lookup import ResultLookUp, Source
from streamer.kafka.reader import Reader
from tests.conftest import Kafka
from tests.integration.health_reports import Bed

pytest.importorskip("faust", reason="needs the extra health")


@pytest.fixture
def bed(kafka: Kafka, tmp_path: Path) -> Bed:
    """Topics of this test's own."""
    return Bed(kafka.bootstrap_servers, tmp_path)


def result(
    topic: str, offset: int, label: str = "joy", timestamp_ms: int | None = None, partition: int = 0, id_: str = ""
) -> bytes:
    """A result as pipelines write it."""
    source: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset}
    source["timestamp_ms"] = timestamp_ms if timestamp_ms is not None else time.time_ns() // 1_000_000 - 60_000
    output, id_ = {"label": label, "score": 0.9}, id_ or f"{topic}/0/{offset}"
    return json.dumps(
        {"id": id_, "pipeline": "mood", "model": {"name": "m", "revision": "r"}, "output": output,
         "source": source}
    ).encode()  # fmt: skip


def configured(name: str, events: str, output: str) -> str:
    """A pipeline, as the configuration has it."""
    return f'''
[pipelines.{name}]
task = "text-classification"
model = "builtin:null"
input = "{events}"
output = "{output}"
'''


def mood_of(bed: Bed) -> tuple[str, str, str]:
    """The output and the input of the pipeline `mood`, which are there, as is the topic of feedback; and its
    configuration."""
    output, events = f"{bed.reports}.out", f"{bed.reports}.in"
    for topic in (output, events, bed.feedback):
        bed.make(topic, 1)
    return output, events, configured("mood", events, output)


def test_results_are_found(bed: Bed) -> None:
    """Of two input topics in one partition, with dead letters, stretches of them, and markers of transactions; a few
    reads each."""
    seed = random.Random(3)
    output = f"{bed.reports}.out"
    bed.make(output, 1)
    offsets = {"a": 0, "b": 5000}
    there: dict[str, set[int]] = {"a": set(), "b": set()}
    values = []
    for index in range(12_000):
        topic = "a" if index < 6_000 and seed.random() < 0.9 else "b"
        offsets[topic] += 1 if seed.random() < 0.9 else seed.choice([2, 3, 800])
        there[topic].add(offsets[topic])
        values.append(result(topic, offsets[topic]))
    bed.write_raw(*values, topic=output, together=1500)
    reads = 0

    class Counted(ResultLookUp):
        def read(self, *args: Any) -> Any:
            nonlocal reads
            reads += 1
            return super().read(*args)

    with Counted(bed.kafka) as look_up:
        for topic, known in there.items():
            wanted = sorted(seed.sample(range(max(known)), 25) + seed.sample(sorted(known), 25) + [max(known)])
            for event, found in zip(wanted, look_up.find(output, 0, Source(topic, 0), wanted), strict=True):
                if event in known:
                    assert isinstance(found, Result)
                    assert (found.source.topic, found.source.offset) == (topic, event)
                else:
                    assert found == Absent(yet=False)
            after = look_up.find(output, 0, Source(topic, 0), [max(known) + 1, max(known) + 900])
            assert after == [Absent(yet=True)] * 2
        assert look_up.find(output, 0, Source("c", 0), [1]) == [Absent(yet=True)]
        assert look_up.find(output, 9, Source("a", 9), [1, 2]) == [Absent(yet=True)] * 2, "there is no partition 9"
    assert reads < 106 * 10


def test_results_that_went_by_key_are_found(bed: Bed) -> None:
    """Of two input partitions, in three output partitions; a dead letter is told from a result that is to come once
    each partition has a later one."""
    output = f"{bed.reports}.out"
    bed.make(output, 3)
    seed = random.Random(4)
    there = {(partition, offset): seed.randrange(3) for partition in (0, 1) for offset in range(3_000) if offset % 50}
    for partition in range(3):
        mine = sorted((place for place, to in there.items() if to == partition), key=lambda place: place[1])
        values = [result("a", offset, partition=source) for source, offset in mine]
        bed.write_raw(*values, topic=output, to=partition)
    with ResultLookUp(bed.kafka) as look_up:
        for partition in (0, 1):
            wanted = sorted({*seed.sample(range(2_900), 40), 50, 100, 2_999, 3_500})
            found = look_up.find_by_key(output, Source("a", partition), wanted)
            for event, each in zip(wanted, found, strict=True):
                if (partition, event) in there:
                    assert isinstance(each, Result)
                    assert (each.source.partition, each.source.offset) == (partition, event)
                else:
                    assert each == Absent(yet=event == 3_500)


def test_each_message_gets_its_outcome(bed: Bed) -> None:
    """Matched, early, late, twice, unknown, without a result, and of a wrong schema: then a dead letter. A restart
    goes on from there, also after a kill -9: nothing is counted or looked up twice, nor is a dead letter written."""
    output, events, pipelines = mood_of(bed)
    long_ago_ms = time.time_ns() // 1_000_000 - 2 * 604_800_000
    bed.write_raw(
        result(events, 0), result(events, 1, "fear"), result(events, 3, timestamp_ms=long_ago_ms), topic=output
    )
    feedback = Producer({"bootstrap.servers": bed.kafka.bootstrap_servers})

    def say(place: dict[str, Any], label: str = "joy", **more: Any) -> None:
        feedback.produce(bed.feedback, json.dumps({**place, "label": label, **more}))
        feedback.flush()

    wanted = {"matched": 3, "duplicate": 2, "late": 1, "no_result": 1, "early": 1}

    def outcomes(page: dict[str, Any], pipeline: str) -> dict[str, int]:
        found: dict[str, int] = page["pipelines"].get(pipeline, {}).get("outcomes", {})
        return found

    rule = '[health.rules.right]\nmetric = "accuracy"\nthreshold = 0.8\nat_least = 4'
    with bed.app(pipelines=pipelines, health=rule) as app:
        say({"ce_id": f"mood/{events}/0/0"}, time="2026-01-02T00:00:00Z")
        say({"origin": [events, 0, 1]})
        say({"id": f"{events}/0/1"}, "fear")
        say({"ce_id": f"mood/{events}/0/0"}, "anger", time="2026-01-01T00:00:00Z")
        say({"ce_id": f"mood/{events}/0/2"})
        say({"ce_id": f"mood/{events}/0/3"})
        say({"ce_id": f"mood/{events}/0/4"})
        say({"id": "order-17", "pipeline": "nobody"})
        feedback.produce(bed.feedback, b'{"id": "secret", "label": 7}', b"key")
        feedback.flush()
        app.wait_for("/feedback", lambda page: outcomes(page, "mood").get("early") == 1)
        bed.write_raw(result(events, 4), topic=output)
        page = app.wait_for("/feedback", lambda page: outcomes(page, "mood") == wanted)
        assert outcomes(page, "") == {"unknown": 1, "refused": 1}
        mood = page["pipelines"]["mood"]["revisions"]["r"]
        assert (mood["labels"], mood["accuracy"], page["pipelines"]["mood"]["waiting"]) == (3, 1.0, 0)
        assert 60 <= mood["lag_p50_s"] < 600
        say({"ce_id": f"mood/{events}/0/5"}, "fear")
        wanted["early"] += 1
        app.wait_for("/feedback", lambda page: outcomes(page, "mood") == wanted)
        app.process.terminate()
        assert app.process.wait(30) == 0
        app.start()
        again = app.wait_for("/feedback", lambda page: page["pipelines"].get("mood", {}).get("waiting") == 1)
        assert outcomes(again, "mood") == wanted
        assert outcomes(again, "") == {"unknown": 1, "refused": 1}
        app.kill()
        app.start()
        say({"origin": [events, 0, 1]}, "joy")
        bed.write_raw(result(events, 5), topic=output)
        wanted |= {"matched": 4, "duplicate": 3}
        app.wait_for("/feedback", lambda page: outcomes(page, "mood") == wanted)
        page = app.wait_for("/quality?length_ms=86400000&pipeline=mood", lambda page: page["windows"])
        (total,) = page["totals"]
        assert total["confusion"] == {"joy": {"joy": 2, "fear": 1}, "fear": {"joy": 1}}
        assert total["metrics"]["accuracy"] == 0.5
        assert total["metrics"]["recall.joy"] == pytest.approx(2 / 3)
        states = app.wait_for("/states", lambda page: "mood: accuracy is 0.500; it fires" in str(page))["states"]
        assert {"right": "firing", "accuracy-gap": "insufficient"}.items() <= {
            state["rule"]: state["state"] for state in states if state["pipeline"] == "mood"
        }.items()
        metrics = app.wait_for("/metrics", lambda text: 'streamer_health_labels{pipeline="mood",revision="r"}' in text)
        assert metrics.count('outcome="duplicate",pipeline="mood"} 1.0') == 1, "the new one alone"
        app.wait_for("/healthz", lambda page: page["ok"])
        app.process.terminate()
        assert app.process.wait(30) == 0
    with Reader(bed.kafka, [bed.health]) as reader:
        words = [decode(record.value()) for record in reader.read_until_end()]
    kept = read_words(bed.kafka, bed.health)
    head, parts = kept[f"feedback/{bed.feedback}"], [word for word in kept.values() if isinstance(word, PartWord)]
    assert isinstance(head, FeedbackWord) and assembled(head, parts) is not None
    said = {word.key: word for word in words if isinstance(word, QualityWord) and word.length_ms == DAY_MS}
    assert sum(word.labels for word in said.values()) == 4
    assert sum(round(word.labels * word.metrics["accuracy"]) for word in said.values()) == 2
    with Reader(bed.kafka, [f"{bed.feedback}.dlq"]) as reader:
        (letter,) = reader.read_until_end()
    assert (letter.key(), letter.value()) == (b"key", b'{"id": "secret", "label": 7}')
    headers = dict(letter.headers() or [])
    assert headers["streamer.error.code"] == b"feedback.type"
    assert "secret" not in app.log.read_text()
    assert "secret" not in str(headers)


def test_ids_that_events_brought_along_name_results(bed: Bed) -> None:
    """Also one whose result comes after its feedback, and after a restart."""
    output, events, pipelines = mood_of(bed)
    bed.write_raw(*(result(events, offset, id_=f"order-{offset}") for offset in range(20)), b"no result", topic=output)

    def say(number: int, label: str = "joy") -> None:
        bed.write_raw(json.dumps({"id": f"order-{number}", "label": label}).encode(), topic=bed.feedback)

    with bed.app(pipelines=pipelines) as app:
        for number, label in ((3, "joy"), (17, "fear"), (3, "fear"), (20, "joy"), (21, "joy")):
            say(number, label)
        wanted = {"matched": 2, "duplicate": 1, "early": 2}
        app.wait_for("/feedback", lambda page: page["pipelines"].get("mood", {}).get("outcomes") == wanted)
        bed.write_raw(result(events, 20, id_="order-20"), topic=output)
        wanted["matched"] += 1
        page = app.wait_for("/feedback", lambda page: page["pipelines"]["mood"]["outcomes"] == wanted)
        assert page["pipelines"]["mood"]["waiting"] == 1
        app.wait_for("/healthz", lambda page: page["ok"])
        app.process.terminate()
        assert app.process.wait(30) == 0
        app.start()
        bed.write_raw(result(events, 21, id_="order-21"), topic=output)
        wanted["matched"] += 1
        page = app.wait_for("/feedback", lambda page: page["pipelines"].get("mood", {}).get("outcomes") == wanted)
        revision = page["pipelines"]["mood"]["revisions"]["r"]
        assert (revision["labels"], revision["accuracy"]) == (4, 0.5)


def test_more_feedback_than_can_be_looked_up_is_held_back_and_not_lost(bed: Bed) -> None:
    """Its results are not there yet, and each is told so; those that are there are found."""
    output, events, pipelines = mood_of(bed)
    bed.write_raw(*(result(events, offset) for offset in range(1_000)), topic=output)
    records = 3 * MOST_FRESH
    with bed.app(pipelines=pipelines) as app:
        app.wait_for("/healthz", lambda page: page["ok"])
        said = [json.dumps({"origin": [events, 0, offset], "label": "joy"}).encode() for offset in range(records)]
        bed.write_raw(*said, topic=bed.feedback, together=records)
        wanted = {"matched": 1_000, "early": records - 1_000}
        app.wait_for("/feedback", lambda page: page["pipelines"].get("mood", {}).get("outcomes") == wanted)


def test_silence_is_told_where_records_wait_only(bed: Bed) -> None:
    """An input with nothing new is no fault, nor are records that wait while others are settled."""
    _, events, pipelines = mood_of(bed)
    silence = Silence(load(bed.config(1, pipelines=pipelines)))
    silence.look({"mood": 1})
    assert silence.look({"mood": 1}) == {"mood": 0.0}
    bed.write_raw(b"a", b"b", topic=events)
    silence.look({"mood": 1})
    assert silence.look({"mood": 1})["mood"] > 0.0
    known_s = silence.look({"mood": 1})["mood"]
    assert silence.look({"mood": 2})["mood"] < known_s


def test_a_pipeline_without_its_topic_hides_no_other_one(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is silent can't be told, and that is said."""
    output, events, pipelines = mood_of(bed)
    bed.write_raw(b"a", topic=events)
    pipelines = configured("early", f"{events}.missing", output) + pipelines
    silence = Silence(load(bed.config(1, pipelines=pipelines)))
    silence.look({})
    found = silence.look({})
    assert found.keys() == {"mood"} and found["mood"] > 0.0
    assert "whether a pipeline is silent is unknown" in caplog.text
