"""What the brokers refuse for good is not written again and again: one record ends as a dead letter, a partition whose
outcomes have no place stands alone and says so, and goes on by itself once there is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from streamer.app.assembly import Assembly
from streamer.config.load import load
from streamer.core.standing import Reason, Standing
from streamer.errors import ConfigurationError
from streamer.kafka import topics
from streamer.kafka.output_topics import FRESH_S, OutputTopics
from tests.acceptance.harness import PIPELINE, Given, Lab, Place, check, event, wait_for
from tests.conftest import Kafka
from tests.integration.in_process import running

GUARANTEES = pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
SOON = {"STREAMER_KAFKA__PROPERTIES__TOPIC_METADATA_REFRESH_INTERVAL_MS": "500"}


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


@pytest.fixture
def no_right_to_describe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brokers don't say how the topics are configured: only what they refuse tells."""

    def nothing(_: Future[dict[str, Any]], __: float) -> dict[str, str]:
        return {}

    monkeypatch.setattr(topics, "_settings", nothing)


def alter(lab: Lab, topic: str, **config: str) -> None:
    """Change settings of a topic."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    lab.admin.incremental_alter_configs([resource])[resource].result(20)


def grow(lab: Lab, topic: str, partitions: int) -> None:
    lab.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(20)


def stands(assembly: Assembly, reason: Reason) -> list[Standing]:
    return [one for one in assembly.signals.standings.current if one.reason is reason]


def expect(lab: Lab, reader: Any, code_of: Callable[[Place], str], guarantee: str = "exactly_once") -> None:
    anomalies = check(lab.given, reader.outcomes, code_of, repeats=guarantee == "at_least_once")
    assert not anomalies, str(anomalies)


@GUARANTEES
@pytest.mark.case(57)
def test_the_one_record_that_is_refused_becomes_a_dead_letter(
    lab: Lab, no_right_to_describe: None, guarantee: str
) -> None:
    """Among hundreds: a compacted topic takes none without a key, and a report names all that were sent with it."""
    lab.topics(2, output={"cleanup.policy": "compact"})
    lab.produce(event(number)._replace(key=None) if number == 123 else event(number) for number in range(400))
    reader = lab.reader()
    with running(lab, guarantee=guarantee):
        wait_for(lambda: reader.places == 400, "all outcomes")
    expect(lab, reader, lambda place: "publish.refused" if lab.given[place].key is None else "", guarantee)
    (letter,) = {one.headers["__connect.errors.exception.message"] for one in reader.outcomes if one.code}
    assert b"INVALID_RECORD" in letter
    assert lab.output.encode() in letter


@pytest.mark.case(57)
@pytest.mark.parametrize("described", [True, False])
def test_a_limit_that_is_lowered_while_it_runs(lab: Lab, request: pytest.FixtureRequest, described: bool) -> None:
    """What fits goes on, what does not becomes a dead letter, whether or not we may look at the limit."""
    if not described:
        request.getfixturevalue("no_right_to_describe")
    lab.topics(1)
    lab.produce(event(number) for number in range(20))
    reader = lab.reader()
    with running(lab):
        wait_for(lambda: reader.places == 20, "the first outcomes")
        alter(lab, lab.output, max_message_bytes="5000")
        lab.produce(event(number, "HUGE" if number == 70 else "") for number in range(20, 100))
        wait_for(lambda: reader.places == 100, "all outcomes")
    expect(lab, reader, lambda place: "publish.too_large" if place.offset == 70 else "")


@GUARANTEES
@pytest.mark.case(58)
def test_an_input_that_grows_beyond_its_output(lab: Lab, guarantee: str) -> None:
    """Partitions that have a place go on; those that have none stand alone, and go on once the topics have grown."""
    lab.topics(1)
    lab.produce(event(number) for number in range(10))
    with running(lab, SOON, guarantee=guarantee) as assembly:
        wait_for(lambda: lab.committed() == 10, "the first ones")
        grow(lab, lab.input, 3)
        lab.partitions = 3
        lab.produce(event(number) for number in range(10, 310))
        wait_for(lambda: len(stands(assembly, Reason.OUTPUT_MISSING)) == 2, "the partitions to stand")
        assert {one.partition for one in assembly.signals.standings.current} == {(lab.input, 1), (lab.input, 2)}
        assert all(f"topic {lab.output} has 1 partitions" in one.what for one in assembly.signals.standings.current)
        in_place = 10 + 100
        wait_for(lambda: lab.committed() == in_place, "the partition that has a place")
        for topic in (lab.output, lab.dead_letter):
            grow(lab, topic, 3)
        wait_for(lambda: lab.committed() == 310, "all others")
    reader = lab.reader()
    wait_for(lambda: reader.places == 310, "all outcomes")
    expect(lab, reader, lambda _: "", guarantee)


@pytest.mark.case(60)
def test_a_limit_raised_as_the_dead_letter_advised(lab: Lab) -> None:
    """The same text is answered without a restart."""
    lab.topics(1, output={"max.message.bytes": "100000"})
    lab.produce([event(0, "HUGE")])
    reader = lab.reader()
    with running(lab):
        wait_for(lambda: reader.places == 1, "the dead letter")
        alter(lab, lab.output, max_message_bytes="1048588")
        time.sleep(FRESH_S)
        lab.produce([event(0, "HUGE")])
        wait_for(lambda: reader.places == 2, "the result")
    expect(lab, reader, lambda place: "" if place.offset else "publish.too_large")


@pytest.mark.case(61)
def test_dead_letters_in_a_topic_no_larger_than_the_input(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """As brokers make both by default. It starts, warns, and drops what does not fit, unless told to be strict."""
    lab.topics(1, dead_letter={})
    lab.produce([Given(b"k", b"\xff" * 1_048_400, []), event(1)])
    reader = lab.reader()
    with running(lab):
        wait_for(lambda: reader.places == 2, "both outcomes")
    assert any("1112588 are needed" in record.getMessage() for record in caplog.records)
    (letter,) = (one for one in reader.outcomes if one.code)
    assert (letter.code, letter.headers["streamer.error.value"]) == ("decode.utf8", b"omitted")
    strict = load(lab.config(), {"STREAMER_KAFKA__STRICT_TOPICS": "true"})
    with pytest.raises(ConfigurationError, match=r"max\.message\.bytes is 1048588, 1112588 are needed"):
        OutputTopics(strict, PIPELINE).check()


@pytest.mark.case(63)
def test_offsets_that_are_refused_for_good(lab: Lab) -> None:
    """At least once: the results of an input that is deleted are written once, not again with each try to commit."""
    lab.topics(1)
    lab.produce([event(0, "SLEEP")])
    reader = lab.reader()
    with running(lab, guarantee="at_least_once") as assembly:
        wait_for(lambda: assembly.pipeline.fleet.held, "the model's work")
        lab.admin.delete_topics([lab.input])[lab.input].result(20)
        wait_for(lambda: stands(assembly, Reason.OUTPUT_REFUSED), "the partition to stand")
        assert "offset of it can't be committed" in str(assembly.signals.standings.current[0])
    assert reader.count <= 2
