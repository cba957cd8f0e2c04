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
from streamer.core.health.join import Absent, Result
from streamer.health.silence import Silence
from streamer.kafka.lookup import ResultLookUp
from streamer.kafka.reader import Reader
from tests.conftest import Kafka
from tests.integration.health_reports import Bed

pytest.importorskip("faust", reason="needs the extra health")


@pytest.fixture
def bed(kafka: Kafka, tmp_path: Path) -> Bed:
    """Topics of this test's own."""
    return Bed(kafka.bootstrap_servers, tmp_path)


def result(topic: str, offset: int, label: str = "joy", timestamp_ms: int | None = None) -> bytes:
    """A result as pipelines write it."""
    source = {"topic": topic, "partition": 0, "offset": offset}
    source["timestamp_ms"] = timestamp_ms if timestamp_ms is not None else time.time_ns() // 1_000_000 - 60_000
    output = {"label": label, "score": 0.9}
    return json.dumps(
        {"id": f"{topic}/0/{offset}", "pipeline": "mood", "model": {"name": "m", "revision": "r"}, "output": output,
         "source": source}
    ).encode()  # fmt: skip


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
            for event, found in zip(wanted, look_up.find(output, 0, topic, wanted), strict=True):
                if event in known:
                    assert isinstance(found, Result)
                    assert (found.source.topic, found.source.offset) == (topic, event)
                else:
                    assert found == Absent(yet=False)
            after = look_up.find(output, 0, topic, [max(known) + 1, max(known) + 900])
            assert after == [Absent(yet=True)] * 2
        assert look_up.find(output, 0, "c", [1]) == [Absent(yet=True)]
    assert reads < 106 * 10


def test_each_message_gets_its_outcome(bed: Bed) -> None:
    """Matched, early, late, twice, unknown, without a result, and of a wrong schema: then a dead letter. A restart
    reads all of it again, and writes no dead letter twice."""
    output, events = f"{bed.reports}.out", f"{bed.reports}.in"
    for topic in (output, events, bed.feedback):
        bed.make(topic, 1)
    pipelines = f"""
[pipelines.mood]
task = "text-classification"
model = "builtin:null"
input = "{events}"
output = "{output}"
"""
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

    with bed.app(pipelines=pipelines, health="") as app:
        say({"ce_id": f"mood/{events}/0/0"}, time="2026-01-02T00:00:00Z")
        say({"origin": [events, 0, 1]})
        say({"id": f"{events}/0/1"}, "fear")
        say({"ce_id": f"mood/{events}/0/0"}, "anger", time="2026-01-01T00:00:00Z")
        say({"ce_id": f"mood/{events}/0/2"})
        say({"ce_id": f"mood/{events}/0/3"})
        say({"ce_id": f"mood/{events}/0/4"})
        say({"id": "order-17"})
        feedback.produce(bed.feedback, b'{"id": "secret", "label": 7}', b"key")
        feedback.flush()
        app.wait_for("/feedback", lambda page: outcomes(page, "mood").get("early") == 1)
        bed.write_raw(result(events, 4), topic=output)
        page = app.wait_for("/feedback", lambda page: outcomes(page, "mood") == wanted)
        assert outcomes(page, "") == {"unknown": 1, "refused": 1}
        mood = page["pipelines"]["mood"]
        assert (mood["labels"], mood["agreed"], mood["waiting"]) == (3, 3, 0)
        assert 60 <= mood["lag_p50_s"] < 600
        app.process.terminate()
        assert app.process.wait(30) == 0
        app.start()
        again = app.wait_for("/feedback", lambda page: sum(outcomes(page, "mood").values()) == 7)
        assert outcomes(again, "mood") == {**wanted, "early": 0} or "early" not in outcomes(again, "mood")
        app.wait_for("/healthz", lambda page: page["ok"])
        app.process.terminate()
        assert app.process.wait(30) == 0
    with Reader(bed.kafka, [f"{bed.feedback}.dlq"]) as reader:
        (letter,) = reader.read_until_end()
    assert (letter.key(), letter.value()) == (b"key", b'{"id": "secret", "label": 7}')
    headers = dict(letter.headers() or [])
    assert headers["streamer.error.code"] == b"feedback.type"
    assert "secret" not in app.log.read_text()
    assert "secret" not in str(headers)


def test_silence_is_told_where_records_wait_only(bed: Bed) -> None:
    """An input with nothing new is no fault, nor are records that wait while others are settled."""
    events = f"{bed.reports}.in"
    bed.make(events, 1)
    pipeline = f'task = "text-classification"\nmodel = "builtin:null"\ninput = "{events}"\noutput = "{events}.out"'
    silence = Silence(load(bed.config(1, pipelines=f"[pipelines.mood]\n{pipeline}")))
    silence.look({"mood": 1})
    assert silence.look({"mood": 1}) == {"mood": 0.0}
    bed.write_raw(b"a", b"b", topic=events)
    silence.look({"mood": 1})
    assert silence.look({"mood": 1})["mood"] > 0.0
    known_s = silence.look({"mood": 1})["mood"]
    assert silence.look({"mood": 2})["mood"] < known_s


def test_a_pipeline_without_its_topic_hides_no_other_one(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is silent can't be told, and that is said."""
    events = f"{bed.reports}.in"
    bed.make(events, 1)
    bed.write_raw(b"a", topic=events)
    pipelines = "".join(
        f'[pipelines.{name}]\ntask = "text-classification"\nmodel = "builtin:null"\ninput = "{topic}"\n'
        f'output = "{topic}.out"\n'
        for name, topic in (("early", f"{events}.missing"), ("mood", events))
    )
    silence = Silence(load(bed.config(1, pipelines=pipelines)))
    silence.look({})
    found = silence.look({})
    assert found.keys() == {"mood"} and found["mood"] > 0.0
    assert "whether a pipeline is silent can't be told" in caplog.text
