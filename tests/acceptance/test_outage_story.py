"""An outage and its end: a bad model version makes dead letters, an operator finds the cause and sends them back."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from streamer.ops.dlq.move import BURST_S, CHUNK_S
from tests.acceptance.harness import ROOT, Given, Lab, Outcome, Reader, Run, wait_for

EVENTS = 5_000
FLAW = 10
HOPELESS = 2_500
FAILED = EVENTS // FLAW
RATE = 200
PARTITIONS = 3
MODEL = "python:tests.python_models:Flawed"


@pytest.fixture
def q_reader(lab: Lab) -> Iterator[Reader]:
    """A subscriber of the second pipeline."""
    lab.topics(PARTITIONS)
    lab.create({f"{lab.name}.q": {}, f"{lab.name}.q.dlq": {"max.message.bytes": "1112588"}}, PARTITIONS)
    lab.create({"streamer.audit": {}}, 1)
    reader = Reader(lab.bootstrap_servers, "q", f"{lab.name}.q", f"{lab.name}.q.dlq", PARTITIONS)
    yield reader
    reader.close()


@pytest.mark.slow
def test_outage_and_replay(lab: Lab, q_reader: Reader) -> None:
    """500 of 5,000 events are dead-lettered by a bad version; their cause is named in one line; a replay at 200/s,
    killed halfway and started again, gives each id exactly one result in its partition's order; nothing moves twice,
    what fails again counts its attempts, and a second pipeline on the same input is not doubled."""
    lab.produce(
        Given(b"k%d" % n, json.dumps({"id": f"e{n}", "text": str(n)}).encode(), []) for n in range(1, EVENTS + 1)
    )
    reader = lab.reader()
    bad = lab.start(_config(lab, flaw=FLAW), "--until-end")
    assert bad.wait(120) == 0, bad.log
    wait_for(lambda: reader.count == q_reader.count == EVENTS, "the outcomes of both pipelines")
    assert Counter(outcome.code for outcome in reader.outcomes) == {"": EVENTS - FAILED, "infer.exception": FAILED}

    causes = _dlq(lab, "causes").stdout.splitlines()
    assert len(causes) == 1
    assert re.match(rf"\s+{FAILED}  [0-9a-f]{{8}}  infer\.exception .*ZeroDivisionError", causes[0])

    good = lab.start(_config(lab, always=[HOPELESS]))
    wait_for(lambda: good.log.count('"message":"assigned"') >= 2, "both pipelines", run=good)
    _replay_killed_halfway(lab, reader)
    again = _dlq(lab, "replay", "--rate", str(RATE), "--job", lab.name, "--execute", code=0)
    left = int(re.findall(r"replay: ([0-9]+) done", again.stderr)[0])
    assert 0 < left < FAILED
    wait_for(lambda: reader.count >= EVENTS + FAILED, "the replayed ones' outcomes", run=good)
    wait_for(lambda: _skipped_by_q(lab) >= FAILED, "the second pipeline's skips", run=good)

    replayed = _replayed(lab)
    assert len(replayed) == FAILED
    second = sorted(message.timestamp()[1] for message in replayed)[FAILED - left :]
    seconds = (second[-1] - second[0]) / 1_000
    most = RATE * (seconds + BURST_S + CHUNK_S)  # a chunk comes at once, and what was slow is caught up
    assert len(second) <= most, f"{len(second)} in {seconds:.2f} s"
    two = round(2 * CHUNK_S * RATE)  # of two chunks each; one that the machine held up, and its catching up, are apart
    pairs_ms = [late - early for early, late in zip(second, second[two:], strict=False)]
    rate = two / statistics.median(pairs_ms) * 1_000
    assert 0.9 * RATE <= rate <= 1.1 * RATE, f"{rate:.0f} a second"
    _assert_one_result_each(reader.outcomes)
    _assert_order(lab, reader.outcomes)

    done = _dlq(lab, "replay", "--rate", str(RATE), "--job", lab.name, "--execute", code=0)
    assert "replay: 0 done" in done.stderr
    refused = _dlq(lab, "replay", "--max-attempts", "2", "--execute", code=4)
    assert "it has failed 2 times" in refused.stdout
    assert len(_replayed(lab)) == FAILED
    assert reader.count == EVENTS + FAILED
    assert q_reader.count == EVENTS
    assert _skipped_by_q(lab) == FAILED
    assert good.stop() == 0, good.log


def _config(lab: Lab, **options: object) -> Path:
    q = {"output": f"{lab.name}.q", "dead_letter": f"{lab.name}.q.dlq", "group": f"{lab.group}.q"}
    return lab.write_config({"p": lab.pipeline(MODEL, options=options), "q": {**lab.pipeline(MODEL), **q}})


def _command(lab: Lab, *arguments: str) -> list[str]:
    config = ("--config", str(lab.folder / "streamer.toml"))
    return [sys.executable, "-m", "streamer", "dlq", arguments[0], lab.dead_letter, *arguments[1:], *config]


def _dlq(lab: Lab, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(_command(lab, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code, ended.stderr
    return ended


def _replay_killed_halfway(lab: Lab, reader: Reader) -> None:
    """Start the replay and kill -9 it when half of its records have new outcomes."""
    arguments = ("replay", "--rate", str(RATE), "--job", lab.name, "--execute")
    run = Run(_command(lab, *arguments), lab.folder / "replay.log")
    lab.runs.append(run)
    wait_for(lambda: reader.count >= EVENTS + FAILED // 2, "half of the replay", run=run)
    run.kill()
    assert reader.count < EVENTS + FAILED


def _replayed(lab: Lab) -> list[Message]:
    """The replayed records that the input topic holds."""
    consumer = Consumer(
        {
            "bootstrap.servers": lab.bootstrap_servers,
            "group.id": f"replayed-{lab.name}",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(lab.input, number, 0) for number in range(PARTITIONS)])
    found, ended = [], 0
    while ended < PARTITIONS:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is not None:
            ended += 1
        elif "streamer.replay.job" in dict(message.headers() or []):
            found.append(message)
    consumer.close()
    return found


def _skipped_by_q(lab: Lab) -> int:
    return sum(each["skipped"].get("replay", 0) for each in lab.read_reports() if each["pipeline"] == "q")


def _assert_one_result_each(outcomes: list[Outcome]) -> None:
    """Every id has one result, but for the hopeless one: that has two dead letters, the second with attempts 2."""
    results = Counter(outcome.body["id"] for outcome in outcomes if not outcome.code)
    assert results == {f"e{n}": 1 for n in range(1, EVENTS + 1) if n != HOPELESS}
    hopeless = [outcome.headers for outcome in outcomes if outcome.code and outcome.key == b"k%d" % HOPELESS]
    assert [headers["streamer.error.attempts"] for headers in hopeless] == [b"1", b"2"]
    assert hopeless[1]["streamer.replay.id"] == b"e%d" % HOPELESS
    assert hopeless[1]["streamer.replay.attempts"] == b"1"


def _assert_order(lab: Lab, outcomes: list[Outcome]) -> None:
    """The results of replayed records come in the order in which they lay in their partition first."""
    first = {json.loads(given.value or b"")["id"]: place for place, given in lab.given.items()}
    last: dict[int, int] = {}
    count = 0
    for outcome in outcomes:
        origin = None if outcome.code else first[outcome.body["id"]]
        if origin is None or origin == outcome.place:
            continue
        assert outcome.place.partition == origin.partition
        assert origin.offset > last.get(origin.partition, -1)
        last[origin.partition] = origin.offset
        count += 1
    assert count == FAILED - 1
