"""A record that takes the driver down, again and again; and drivers that die of other things."""

from __future__ import annotations

import json
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.acceptance.harness import Lab, Reader, check, event, wait_for
from tests.conftest import Kafka

EVENTS = 3_000
LIMIT = 3
MICRO_BATCH = 200
# A death after a settle is not counted, and up to the record at fault there are so many micro-batches of its partition
# to settle; one more may be lost to a rebalance.
MOST_DEATHS = LIMIT + EVENTS // 2 // 2 // MICRO_BATCH + 1


def test_a_record_that_kills_the_driver_becomes_a_dead_letter(kafka: Kafka, tmp_path: Path) -> None:
    """With either guarantee a process that is started again and again gets past it, and all others have results."""
    with ExitStack() as stack:
        labs = []
        for guarantee in ("exactly_once", "at_least_once"):
            (tmp_path / guarantee).mkdir()
            lab = stack.enter_context(Lab(kafka.bootstrap_servers, tmp_path / guarantee))
            lab.topics(2)
            lab.produce(event(number, "PARRICIDE" if number == EVENTS // 2 else "") for number in range(EVENTS))
            labs.append(lab)
        configs = [
            lab.config(
                guarantee=lab.folder.name, crash_limit=LIMIT, micro_batch_records=MICRO_BATCH, options={"text_us": 50}
            )
            for lab in labs
        ]
        readers = [lab.reader() for lab in labs]
        runs = [lab.start(config) for lab, config in zip(labs, configs, strict=True)]
        deadline = time.monotonic() + 120
        while any(reader.places < EVENTS for reader in readers):
            assert time.monotonic() < deadline, [reader.places for reader in readers]
            for index, run in enumerate(runs):
                if run.ended:
                    assert run.process.returncode == -signal.SIGKILL, run.log
                    runs[index] = labs[index].start(configs[index])
            time.sleep(0.02)
        for lab, reader, run in zip(labs, readers, runs, strict=True):
            assert run.stop() == 0, run.log
            assert LIMIT <= len(lab.runs) - 1 <= MOST_DEATHS
            _check(lab, reader, {EVENTS // 2: "infer.driver_killed"})


def test_kills_by_hand_convict_nobody(lab: Lab) -> None:
    """kill -9 five times in a row while the same record is in its hands: it has its result in the end."""
    lab.topics(1)
    lab.produce(event(number, "SLEEP" if number == 0 else "") for number in range(20))
    config = lab.config()
    reader = lab.reader()
    for number in range(1, 6):
        run = lab.start(config)
        wait_for(partial(_has_attempt, lab, number), f"attempt {number}", run=run)
        run.kill()
    assert lab.start(config, "--until-end").wait() == 0
    wait_for(lambda: reader.places == 20, "all outcomes")
    _check(lab, reader, {})


def _has_attempt(lab: Lab, number: int) -> bool:
    """Whether the metadata of the committed offset tells of this attempt."""
    consumer = Consumer({"bootstrap.servers": lab.bootstrap_servers, "group.id": lab.group})
    try:
        (found,) = consumer.committed([TopicPartition(lab.input, 0)], timeout=10)
    except KafkaException:
        return False  # the coordinator is not there yet
    finally:
        consumer.close()
    return len(json.loads(found.metadata or "{}").get("by", [])) == number


def _check(lab: Lab, reader: Reader, dead: dict[int, str]) -> None:
    codes = {place: dead.get(number, "") for number, place in enumerate(lab.given)}
    anomalies = check(lab.given, reader.outcomes, codes.__getitem__, repeats=lab.folder.name == "at_least_once")
    assert not anomalies, str(anomalies)
