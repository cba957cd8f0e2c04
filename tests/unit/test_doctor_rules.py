"""The doctor's rules on facts that no single test broker can be brought to; the others are planted for real."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.config import Config, PipelineConfig
from streamer.core.facts import (
    BrokerFacts,
    CacheFacts,
    ClientTimes,
    GroupFacts,
    MachineFacts,
    ModelFacts,
    TopicFacts,
)
from streamer.core.pipeline.attempts import Note, standing_of
from streamer.kafka.inspect import release_of
from streamer.ops.doctor import broker, cache, group, machine, model, pipelines, timing, topics
from streamer.ops.doctor.finding import Finding, Severity

PIPELINE = PipelineConfig(
    task="t", model="m", input=["in"], output="out", dead_letter="out.dlq", group="g", device="cuda:1"
)
BROKER = BrokerFacts("k:9092", 3, (4, 0))
TOPIC = TopicFacts("out", 2, 3, 3, 0, {"min.insync.replicas": "2", "cleanup.policy": "delete"})
REDIS = CacheFacts("r:6379", version="8.0.1", policy="allkeys-lru", max_bytes=1)


def codes(findings: list[Finding]) -> list[str]:
    """Each finding's code, with ! after errors."""
    return [f"{each.code}{'!' if each.severity is Severity.ERROR else ''}" for each in findings]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (BROKER, []),
        (replace(BROKER, silent=("kafka:9092",)), ["broker.silent!"]),
        (replace(BROKER, release=(0, 0)), ["broker.old!"]),
        (replace(BROKER, release=None), []),
        (replace(BROKER, settings={"offsets.retention.minutes": "60"}), ["broker.offsets_retention"]),
    ],
)
def test_brokers(facts: BrokerFacts, expected: list[str]) -> None:
    """Announced addresses must answer, releases must know KIP-447, groups must be remembered."""
    assert codes(list(broker.judge(facts, {"p": PIPELINE}))) == expected


def test_an_old_broker_serves_at_least_once() -> None:
    """Transactions alone need the release."""
    modest = PipelineConfig(task="t", model="m", input=["in"], output="out", guarantee="at_least_once")
    assert not list(broker.judge(replace(BROKER, release=(0, 0)), {"p": modest}))


def test_releases_are_read_from_the_versions_of_requests() -> None:
    """By what each release added or took away."""
    spoken = {1: (0, 11), 28: (0, 3)}
    assert release_of({28: (0, 2)}) == (0, 0)
    assert release_of(spoken) == (2, 5)
    assert release_of(spoken | {60: (0, 0)}) == (2, 8)
    assert release_of(spoken | {60: (0, 0), 66: (0, 0)}) == (3, 0)
    assert release_of(spoken | {1: (4, 18), 66: (0, 2)}) == (4, 0)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (TOPIC, []),
        (replace(TOPIC, leaderless=1, in_sync=0), ["topic.leaderless!"]),
        (replace(TOPIC, in_sync=1), ["topic.insync!"]),
        (replace(TOPIC, replication=1, in_sync=1, settings={}), ["topic.replication"]),
        (replace(TOPIC, settings={"min.insync.replicas": "1"}), ["topic.insync_one"]),
    ],
)
def test_replicas(facts: TopicFacts, expected: list[str]) -> None:
    """Of topics that are written, on a cluster of several brokers."""
    found = topics.judge(Config(pipelines={"p": PIPELINE}), ["p"], {"out": facts}, BROKER)
    assert codes(list(found)) == expected


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (ClientTimes(10_000, 10_000, 1_000, 300_000), []),
        (ClientTimes(None, 10_000, 4_000, 300_000), ["timing.heartbeat"]),
        (ClientTimes(1_000, 10_000, 1_000, 300_000), ["timing.transaction"]),
        (ClientTimes(120_000, 10_000, 1_000, 300_000), ["timing.transaction"]),
        (ClientTimes(None, 10_000, 1_000, 11_000), ["timing.poll!"]),
    ],
)
def test_times(times: ClientTimes, expected: list[str]) -> None:
    """Against one another and the pipeline's own deadlines."""
    assert codes(list(timing.judge("p", PIPELINE, times, BROKER))) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (REDIS, []),
        (replace(REDIS, cluster=True), ["cache.cluster"]),
        (replace(REDIS, denied=("SETEX",)), ["cache.rights"]),
        (replace(REDIS, version="5.0.3"), ["cache.old"]),
        (
            replace(REDIS, key_problem="cache.key_file: f is too short for a key; make another", key_ends_start=True),
            ["cache.key!"],
        ),
        (replace(REDIS, key_problem="cache.key_file: f: Read-only file system; name a file"), ["cache.key"]),
        (replace(REDIS, key_exposed=True), ["cache.key_exposed"]),
        (CacheFacts("r:6379"), []),
    ],
)
def test_redis(facts: CacheFacts, expected: list[str]) -> None:
    """What it does not tell is not held against it."""
    assert codes(list(cache.judge(facts))) == expected


@pytest.mark.parametrize(("gpus", "expected"), [(0, ["device.absent!"]), (1, ["device.absent!"]), (2, []), (None, [])])
def test_the_gpu_asked_for_must_be_there(gpus: int | None, expected: list[str]) -> None:
    """By its number; where nobody can tell, the worker will."""
    assert codes(list(model.judge("p", PIPELINE, ModelFacts(), MachineFacts(2, 1, gpus)))) == expected


def test_workers_count_against_memory_as_measured() -> None:
    """Each worker takes what the one that was tried took: too much is an error, nearly too much a warning."""
    config = Config(pipelines={"p": PIPELINE})

    def found(memory_gb: float) -> list[str]:
        facts = MachineFacts(64, int(memory_gb * 1e9))
        return codes(list(machine.judge(config, {"p": (4, 1)}, {"p": ModelFacts(worker_bytes=10**9)}, facts, {})))

    assert (found(16), found(4.5), found(2)) == ([], ["machine.memory"], ["machine.memory!"])


def test_our_own_port_is_no_error() -> None:
    """Where streamer itself listens, the pipeline runs already."""
    facts = MachineFacts(64, 10**12, taken={"h:1": True, "h:2": False})
    config = Config(pipelines={"p": PIPELINE})
    found = machine.judge(config, {"p": (1, 1)}, {}, facts, {"p": "h:1", "q": "h:2"})
    assert codes(list(found)) == ["http.taken", "http.taken!"]


def test_a_ring_is_named_once() -> None:
    """Through results and dead letters alike, however many are in it; a row of pipelines is none."""

    def pipeline(reads: str, writes: str, dead: str) -> PipelineConfig:
        return PipelineConfig(task="t", model="m", input=[reads], output=writes, dead_letter=dead)

    row = {"a": pipeline("1", "2", "1.dlq"), "b": pipeline("2", "3", "2.dlq"), "c": pipeline("3", "4", "3.dlq")}
    assert not list(pipelines.judge(row))
    ring = row | {"c": pipeline("3", "4", "1")}
    (finding,) = pipelines.judge(ring)
    assert "a → b → c → a" in finding.what
    mixed = row | {"c": pipeline("3", "1.dlq", "3.dlq")}
    assert codes(list(pipelines.judge(mixed))) == ["pipelines.output!"]


@pytest.mark.case(64)
def test_a_partition_that_is_held_is_an_error() -> None:
    """Named with the record at its head, and both ways out."""
    held = standing_of(("in", 0), (7, Note(by=["a", "b", "c"], at=7, held=True).write()))
    assert held is not None
    (finding,) = group.judge(GroupFacts("g", held=(held,)), PIPELINE, "streamer", {}, 0, "k")
    assert (finding.code, finding.severity, finding.where) == ("group.held", "error", "in/0/7")
    assert "`streamer dlq bury in/0/7`" in finding.mend


def test_gone_records_that_may_be_left_out_are_a_warning() -> None:
    """`on_out_of_range` decides whether the pipeline stops there."""
    lost = GroupFacts("g", settled={("in", 0): 3}, earliest={("in", 0): 10})
    lenient = PipelineConfig(task="t", model="m", input=["in"], output="out", on_out_of_range="earliest")
    assert codes(list(group.judge(lost, PIPELINE, "streamer", {}, 0, "k"))) == ["records.gone!"]
    assert codes(list(group.judge(lost, lenient, "streamer", {}, 0, "k"))) == ["records.gone"]
