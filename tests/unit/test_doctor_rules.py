"""The doctor's rules on surroundings that no single test broker can be brought to; the others are planted for real."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.config.load import Config, PipelineConfig
from streamer.config.seats import Seat
from streamer.core.onlooker import View
from streamer.core.surroundings import (
    BrokerInfo,
    CacheInfo,
    ClientTimes,
    GroupInfo,
    MachineInfo,
    MemberInfo,
    ModelInfo,
    RunningInfo,
    TopicInfo,
)
from streamer.kafka.inspect import release_of
from streamer.ops.doctor import cache, cluster, group, machine, pipelines, records
from streamer.ops.doctor.finding import Finding, Severity

PIPELINE = PipelineConfig(
    task="t", model="m", input=["in"], output="out", dead_letter="out.dlq", group="g", device="cuda:1"
)
BROKER = BrokerInfo("k:9092", 3, (4, 0))
TOPIC = TopicInfo("out", 2, 3, 3, 0, {"min.insync.replicas": "2", "cleanup.policy": "delete"})
REDIS = CacheInfo("r:6379", version="8.0.1", policy="allkeys-lru", max_bytes=1)


def codes(findings: list[Finding]) -> list[str]:
    """Each finding's code, with ! after errors."""
    return [f"{each.code}{'!' if each.severity is Severity.ERROR else ''}" for each in findings]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (BROKER, []),
        (replace(BROKER, silent=("kafka:9092",)), ["broker.silent!"]),
        (replace(BROKER, release=(0, 0)), ["broker.old!"]),
        (replace(BROKER, release=None), []),
        (replace(BROKER, settings={"offsets.retention.minutes": "60"}), ["broker.offsets_retention"]),
    ],
)
def test_brokers(info: BrokerInfo, expected: list[str]) -> None:
    """Announced addresses must answer, releases must know KIP-447, groups must be remembered."""
    assert codes(list(cluster.judge_brokers(info, {"p": PIPELINE}))) == expected


def test_an_old_broker_serves_at_least_once() -> None:
    """Transactions alone need the release."""
    modest = PipelineConfig(task="t", model="m", input=["in"], output="out", guarantee="at_least_once")
    assert not list(cluster.judge_brokers(replace(BROKER, release=(0, 0)), {"p": modest}))


def test_releases_are_read_from_the_versions_of_requests() -> None:
    """By what each release added or took away."""
    spoken = {1: (0, 11), 28: (0, 3)}
    assert release_of({28: (0, 2)}) == (0, 0)
    assert release_of(spoken) == (2, 5)
    assert release_of(spoken | {60: (0, 0)}) == (2, 8)
    assert release_of(spoken | {60: (0, 0), 66: (0, 0)}) == (3, 0)
    assert release_of(spoken | {1: (4, 18), 66: (0, 2)}) == (4, 0)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (TOPIC, []),
        (replace(TOPIC, leaderless=1, in_sync=0), ["topic.leaderless!"]),
        (replace(TOPIC, in_sync=1), ["topic.insync!"]),
        (replace(TOPIC, replication=1, in_sync=1, settings={}), ["topic.replication"]),
        (replace(TOPIC, settings={"min.insync.replicas": "1"}), ["topic.insync_one"]),
    ],
)
def test_replicas(info: TopicInfo, expected: list[str]) -> None:
    """Of topics that are written, on a cluster of several brokers."""
    found = cluster.judge_topics(Config(pipelines={"p": PIPELINE}), ["p"], {"out": info}, BROKER)
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
    assert codes(list(pipelines.judge_times("p", PIPELINE, times, BROKER))) == expected


@pytest.mark.parametrize(
    ("info", "expected"),
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
        (CacheInfo("r:6379"), []),
    ],
)
def test_redis(info: CacheInfo, expected: list[str]) -> None:
    """What it does not tell is not held against it."""
    assert codes(list(cache.judge(info))) == expected


@pytest.mark.case(54)
@pytest.mark.parametrize(
    ("info", "advice"),
    [
        (replace(REDIS, unwritable="OOM", policy="noeviction"), "CONFIG SET maxmemory-policy allkeys-lru"),
        (replace(REDIS, unwritable="OOM", policy="volatile-lru"), "a Redis of its own"),
        (replace(REDIS, unwritable="OOM", policy="allkeys-lru"), "raise maxmemory"),
        (replace(REDIS, unwritable="READONLY"), "name the primary"),
        (replace(REDIS, unwritable="MASTERDOWN"), "name the primary"),
        (replace(REDIS, unwritable="MISCONF"), "free the disk"),
        (replace(REDIS, unwritable="NOREPLICAS"), "start its replicas"),
        (CacheInfo("r:6379", failure="LOADING"), "wait"),
        (CacheInfo("r:6379", failure="ConnectionError"), "start it"),
    ],
)
def test_a_redis_that_takes_no_keys_is_told_why(info: CacheInfo, advice: str) -> None:
    """Each refusal has a way out of its own."""
    finding = next(cache.judge(info))
    assert finding.fix.startswith(advice) or advice in finding.fix.split(",")[0]


@pytest.mark.parametrize(("gpus", "expected"), [(0, ["device.absent!"]), (1, ["device.absent!"]), (2, []), (None, [])])
def test_the_gpu_asked_for_must_be_there(gpus: int | None, expected: list[str]) -> None:
    """By its number; where nobody can tell, the worker will."""
    assert codes(list(machine.judge_model("p", PIPELINE, ModelInfo(), MachineInfo(2, 1, gpus)))) == expected


def test_workers_count_against_memory_as_measured() -> None:
    """Each worker takes what the one that was tried took: too much is an error, nearly too much a warning."""
    config = Config(pipelines={"p": PIPELINE})

    def found(memory_gb: float) -> list[str]:
        info = MachineInfo(64, int(memory_gb * 1e9))
        return codes(list(machine.judge(config, {"p": (4, 1)}, {"p": ModelInfo(worker_bytes=10**9)}, info, {})))

    assert (found(16), found(4.5), found(2)) == ([], ["machine.memory"], ["machine.memory!"])


def test_our_own_port_is_no_error() -> None:
    """Where streamer itself listens, the pipeline runs already."""
    info = MachineInfo(64, 10**12, taken={"h:1": True, "h:2": False})
    config = Config(pipelines={"p": PIPELINE})
    found = machine.judge(config, {"p": (1, 1)}, {}, info, {Seat("p"): "h:1", Seat("q"): "h:2"})
    assert codes(list(found)) == ["http.taken", "http.taken!"]


@pytest.mark.case(56)
def test_a_ring_with_running_pipelines_is_found() -> None:
    """Of other configurations, however many: by what they read and write. Our own replicas and a row make none."""
    one = RunningInfo("one", frozenset({"out"}), "1")
    other, replica = RunningInfo("other", frozenset({"1", "x"}), "in"), RunningInfo("g", frozenset({"in"}), "out")
    (found,) = pipelines.judge_running("p", PIPELINE, [other, one, replica])
    assert "pipeline p → group one → group other → pipeline p" in found.what
    assert not list(pipelines.judge_running("p", PIPELINE, [one, replica]))
    letters = RunningInfo("letters", frozenset({"out.dlq"}), "in")
    assert codes(list(pipelines.judge_running("p", PIPELINE, [letters]))) == ["pipelines.loop!"]


def test_a_full_group_lets_nobody_in() -> None:
    """By the brokers' own bound."""
    one = GroupInfo("g", members=(MemberInfo("streamer.out", "h", "", frozenset()),))
    small = replace(BROKER, settings={"group.max.size": "1"})
    assert codes(list(group.judge(one, PIPELINE, "streamer.out", small))) == ["group.full!"]
    assert not list(group.judge(one, PIPELINE, "streamer.out", replace(BROKER, settings={"group.max.size": "2"})))


def found_of(info: GroupInfo, pipeline: PipelineConfig = PIPELINE, now_ms: int = 0) -> list[str]:
    """What the rules on records find."""
    return codes(list(records.judge(info, pipeline, {}, now_ms, "k")))


def test_gone_records_that_may_be_left_out_are_a_warning() -> None:
    """`on_out_of_range` decides whether the pipeline stops there."""
    lost = GroupInfo("g", views=(View(("in", 0), 10, 20, 20, 10, 3, first_ms=1),))
    lenient = PipelineConfig(task="t", model="m", input=["in"], output="out", on_out_of_range="earliest")
    assert found_of(lost) == ["records.gone!"]
    assert found_of(lost, lenient) == ["records.gone"]


def test_an_open_transaction_is_an_error_once_it_is_old() -> None:
    """Who writes much in one is given a minute."""
    waiting = GroupInfo("g", views=(View(("in", 0), 0, 10, 20, 10, 10, open_ms=100_000),))
    assert found_of(waiting, now_ms=105_000) == []
    assert found_of(waiting, now_ms=130_000) == ["records.open_transaction"]
    assert found_of(waiting, now_ms=200_000) == ["records.open_transaction!"]


def test_a_partition_that_nobody_reads_is_named() -> None:
    """Where it has records, and while none move between members."""
    waiting = View(("in", 0), 0, 10, 10, 4, 4, first_ms=1)
    assert found_of(GroupInfo("g", views=(waiting,), owned=frozenset())) == ["records.unowned"]
    assert found_of(GroupInfo("g", views=(waiting,), owned=frozenset({("in", 0)}))) == []
    assert found_of(GroupInfo("g", views=(waiting,))) == []
    assert found_of(GroupInfo("g", views=(View(("in", 0), 0, 4, 4, 4, 4),), owned=frozenset())) == []


def test_a_framed_record_is_told_before_it_becomes_a_dead_letter() -> None:
    """By the first that waits."""
    assert found_of(GroupInfo("g", views=(View(("in", 0), 0, 10, 10, 4, 4, framed=True),))) == ["records.framed"]
    avro = PipelineConfig(task="t", model="m", input=["in"], output="out", input_format="avro")
    assert found_of(GroupInfo("g", views=(View(("in", 0), 0, 10, 10, 4, 4, framed=True),)), avro) == []


@pytest.mark.case(52)
def test_offsets_that_are_gone_are_told() -> None:
    """A group without any beside results; a partition without one beside others. A new or running pipeline is well."""
    unread, read = View(("in", 0), 0, 10, 10, 0, first_ms=1), View(("in", 1), 0, 10, 10, 10, 10)
    empty = View(("in", 2), 0, 0, 0, 0)
    running = (MemberInfo("streamer", "h", "", frozenset()),)
    assert found_of(GroupInfo("g", views=(unread, empty))) == []
    assert found_of(GroupInfo("g", views=(unread, empty), written=7)) == ["group.no_offsets"]
    assert found_of(GroupInfo("g", views=(unread, read), settled={("in", 1): 10})) == ["group.no_offset"]
    assert found_of(GroupInfo("g", views=(unread,), settled={("gone", 1): 10}, written=7)) == ["group.no_offset"]
    assert found_of(GroupInfo("g", views=(read, empty), settled={("in", 1): 10}, written=7)) == []
    assert found_of(GroupInfo("g", views=(unread, read), members=running, settled={("in", 1): 10})) == []
