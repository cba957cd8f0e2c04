"""What `streamer run` says it did is what a reader of the topics counts, on a real Kafka."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.app.start import RunOptions, start
from streamer.config.load import load
from streamer.core.pipeline.protocol import Settle
from streamer.core.settle.calls import Act, Asked, Call, Failed, SendOffsets
from streamer.errors import ExitCode
from streamer.kafka.transactional_sink import TransactionalSink
from tests.acceptance.harness import PIPELINE, Given, Lab, Outcome, Run, event, wait_for
from tests.conftest import Kafka

BAD = Given(b"k", b"no event", [])


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


def codes(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(outcome.code for outcome in outcomes)


@pytest.mark.parametrize("what", ["the answer to a commit is lost", "a transaction is rolled back"])
def test_a_plan_counts_once_whatever_becomes_of_its_transaction(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Where the commit took effect and nobody heard of it, and where the plan is made again: totals and metrics say
    what a reader finds."""
    call, plans = TransactionalSink._call, []

    def failing(sink: TransactionalSink, asked: Asked, plan: Settle | None) -> Any:
        strikes = asked is Call.COMMIT if what.startswith("the answer") else isinstance(asked, SendOffsets)
        if strikes:
            plans.append(asked)
        if not strikes or len(plans) not in (1, 3):
            return call(sink, asked, plan)
        if asked is Call.COMMIT:
            call(sink, asked, plan)
        else:
            assert sink._producer is not None
            sink._producer.flush(10)  # the client may abort when it is dropped amid its first requests
        raise Failed(Act.REBUILD, "_TIMED_OUT")

    monkeypatch.setattr(TransactionalSink, "_call", failing)
    lab.topics(2)
    lab.telemetry["reports"] = ""
    config = load(lab.config(options={"cacheable": True}), {})
    assembly = start(config, PIPELINE, RunOptions())
    ended: list[ExitCode] = []
    driver = threading.Thread(target=lambda: ended.append(assembly.driver.run()))
    driver.start()
    try:
        for _ in range(4):
            lab.produce([*(event(number % 50) for number in range(100)), BAD])
            wait_for(lambda: lab.committed() == len(lab.given), "what was written")
    finally:
        assembly.driver.stop(10)
        driver.join(60)
        assembly.close(1)
    assert ended == [ExitCode.DONE]
    assert len(plans) > 3, "too few plans: this proved nothing"
    reader = lab.reader()
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    found, tally = codes(reader.outcomes), assembly.life.tally
    assert (tally.records, tally.results) == (len(lab.given), found.pop(""))
    assert tally.dead_letters == found == {"decode.json": 4}
    assert 0 < tally.cached < tally.results
    families = [sample for family in assembly.metrics.registry.collect() for sample in family.samples]
    assert sum(one.value for one in families if one.name == "streamer_records_total") == len(lab.given)


def ended(run: Run) -> dict[str, Any]:
    """The line that a run says last of itself."""
    lines = [json.loads(line) for line in run.log.splitlines() if line.startswith("{")]
    (found,) = [line for line in lines if line["message"] == "ended"]
    return dict(found)


def test_two_members_together_say_what_a_reader_counts(lab: Lab) -> None:
    """One joins and leaves amid the load; their totals add up to what is in the topics. Each tells its life in a few
    lines."""
    lab.topics(4)
    lab.produce([*(event(number) for number in range(2_000)), *[BAD] * 10])
    config = lab.config(options={"text_us": 500}, micro_batch_records=50)
    first, reader = lab.start(config), lab.reader()
    wait_for(lambda: reader.count >= 50, "the first outcomes", run=first)
    second = lab.start(config)
    wait_for(second.assigned, "the second one's partitions", run=second)
    wait_for(lambda: first.log.count('"message":"revoked"'), "the rebalance", run=first)
    assert second.stop() == 0
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes", run=first)
    assert first.stop() == 0
    ends = [ended(first), ended(second)]
    found = codes(reader.outcomes)
    assert sum(end["results"] for end in ends) == found[""] == 2_000
    assert sum(end["dead_letters"].get("decode.json", 0) for end in ends) == found["decode.json"] == 10
    assert sum(end["records"] for end in ends) == len(lab.given)
    assert all(end["reason"] == "stopped by SIGTERM" and end["exit_code"] == 0 and not end["skipped"] for end in ends)
    messages = [json.loads(line)["message"] for line in second.log.splitlines()]
    told = dict.fromkeys(one for one in messages if one in ("loading", "ready", "assigned", "stopping", "ended"))
    assert list(told) == ["loading", "ready", "assigned", "stopping", "ended"]
    assert len(messages) <= 8, second.log
