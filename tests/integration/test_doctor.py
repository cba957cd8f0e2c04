"""`streamer doctor` against a real broker with rights and logins, and a real Redis: each fault is planted and found."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from streamer.cli import main
from streamer.errors import ExitCode
from streamer.local import Stack
from streamer.local.ports import LOOPBACK, free_ports
from tests.acceptance.harness import wait_for
from tests.integration.group_offsets import settle
from tests.integration.redis_server import RedisServer

HOUR_MS = 3_600_000
ROOM_BYTES = "1112588"  # the brokers' default and 64 kB


@dataclass
class Bed:
    """A broker with a listener for its administrator, one for the user `limited`, and one whose announced address
    (`closed`) nobody answers at; a Redis, and a sound set-up."""

    address: str
    sasl: str
    misled: str
    closed: str
    admin: AdminClient
    redis: RedisServer
    config: Path
    folder: Path
    closing: ExitStack

    def topic(self, partitions: int = 2, **settings: str) -> str:
        """A new topic."""
        name = f"doctor-{uuid4().hex[:8]}"
        config = {key.replace("_", "."): value for key, value in settings.items()}
        self.admin.create_topics([NewTopic(name, partitions, config=config)])[name].result(30)
        return name

    def write(self, topic: str, timestamps_ms: list[int]) -> None:
        """A record for each timestamp on partition 0."""
        producer = Producer({"bootstrap.servers": self.address})
        for timestamp_ms in timestamps_ms:
            producer.produce(topic, b"{}", partition=0, timestamp=timestamp_ms)
        assert producer.flush(30) == 0
        producer.close()

    def member(self, topic: str, group: str, **properties: str) -> None:
        """A member that stays in the group until the test is over."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": group,
                "partition.assignment.strategy": "cooperative-sticky",
                "client.id": "streamer",
                **{key.replace("_", "."): value for key, value in properties.items()},
            }
        )
        self.closing.callback(consumer.close)
        consumer.subscribe([topic])
        deadline = time.monotonic() + 30
        while not consumer.assignment():
            assert time.monotonic() < deadline
            consumer.poll(0.1)

    def redis_with(self, *options: str, password: str = "") -> RedisServer:
        """Another Redis."""
        return self.closing.enter_context(RedisServer(*options, password=password))


Plant = Callable[[Bed], list[str]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """All that the tests of this file share."""
    plain, sasl, misled, closed, controller = free_ports(5)
    inside = f"PLAINTEXT://{LOOPBACK}:{plain},SASL://{LOOPBACK}:{sasl}"
    broker = {
        "listeners": f"{inside},MISLED://{LOOPBACK}:{misled},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"{inside},MISLED://{LOOPBACK}:{closed}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,MISLED:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_limited="secret";'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    folder = tmp_path_factory.mktemp("doctor")
    with (
        Stack.start(redis=False, kafka_config=broker, ports={"kafka": plain}, directory=folder) as kafka,
        RedisServer("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as redis,
        ExitStack() as closing,
    ):
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        config = folder / "streamer.toml"
        config.write_text(
            f"""
[kafka]
bootstrap_servers = "{kafka.bootstrap_servers}"
[cache]
url = "{redis.url}"
[telemetry]
http = "127.0.0.1:0"
[pipelines.p]
task = "t"
model = "builtin:null"
input = "in"
output = "out"
workers = 1
threads = 1
"""
        )
        assert main(["topics", "create", "--config", str(config), "--input-partitions", "2"]) == ExitCode.DONE
        # A new cluster makes the topic of offsets for its first group, which takes longer than doctor waits where many
        # tests begin at once.
        wait_for(lambda: _has_a_coordinator(kafka.bootstrap_servers), "the first group's coordinator")
        plain_at, sasl_at, misled_at, closed_at = (f"{LOOPBACK}:{port}" for port in (plain, sasl, misled, closed))
        yield Bed(plain_at, sasl_at, misled_at, closed_at, admin, redis, config, folder, closing)
        # Clients that are garbage end while their broker is there: the end of one whose broker was gone never came.
        gc.collect()


def _has_a_coordinator(address: str) -> bool:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "doctor-first-group"})
    try:
        consumer.committed([TopicPartition("in", 0)], timeout=10)
    except KafkaException:
        return False
    finally:
        consumer.close()
    return True


@pytest.fixture
def bed(stack: Bed) -> Iterator[Bed]:
    """The same, with what a test itself starts ended after it."""
    with ExitStack() as closing:
        stack.closing = closing
        yield stack


def examined(bed: Bed, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of a run."""
    capsys.readouterr()
    code = main(["doctor", "--config", str(bed.config), "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_a_sound_set_up_passes(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """No finding at all, and what was looked at is told, the loaded model included."""
    code, told = examined(bed, capsys)
    assert (code, told["ok"], told["findings"]) == (ExitCode.DONE, True, [])
    about = {check["noun"]: check["about"] for check in told["checked"]}
    assert about["Kafka"].endswith("1 broker, 4.0 or later")
    assert about["topics"] == "5 of 5 exist"
    assert "ready on cpu" in about["model"]
    assert {"pipelines", "group", "Redis", "machine"} <= about.keys()


def sets(*overrides: str) -> Plant:
    """A fault of the configuration."""
    return lambda bed: [f"--set={override}" for override in overrides]


def output(**settings: Any) -> Plant:
    """Another topic for results."""
    return lambda bed: [f"--set=pipelines.p.output={bed.topic(**settings)}", "--set=pipelines.p.dead_letter=out.dlq"]


def no_room_for_dead_letters(bed: Bed) -> list[str]:
    return [f"--set=pipelines.p.dead_letter={bed.topic()}"]


def second_pipeline(**fields: str) -> Plant:
    """Another pipeline beside the sound one."""
    values = {"task": "t", "model": "builtin:null", "threads": "1", "workers": "1", **fields}
    return sets(*(f"pipelines.q.{key}={value}" for key, value in values.items()))


def wrong_password(bed: Bed) -> list[str]:
    return [*login(bed), "--set=kafka.properties.sasl.password=hunter2"]


def login(bed: Bed) -> list[str]:
    """As the user `limited`."""
    properties = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "limited",
        "sasl.password": "secret",
    }
    options = [f"--set=kafka.properties.{name}={value}" for name, value in properties.items()]
    return [f"--set=kafka.bootstrap_servers={bed.sasl}", *options]


def plain_text_to_a_login(bed: Bed) -> list[str]:
    return [f"--set=kafka.bootstrap_servers={bed.sasl}"]


def no_right_to_write(bed: Bed) -> list[str]:
    allow(bed, ResourceType.TOPIC, "in", AclOperation.READ)
    for name in ("out", "out.dlq", "streamer.reports", "otlp_spans", "streamer.dlq.state", "streamer.audit"):
        allow(bed, ResourceType.TOPIC, name, AclOperation.DESCRIBE)
    allow(bed, ResourceType.GROUP, "streamer.p", AclOperation.DESCRIBE)
    return login(bed)


def allow(bed: Bed, kind: ResourceType, name: str, operation: AclOperation) -> None:
    """One right for `limited`."""
    binding = AclBinding(
        kind, name, ResourcePatternType.LITERAL, "User:limited", "*", operation, AclPermissionType.ALLOW
    )
    for future in bed.admin.create_acls([binding]).values():
        future.result(30)


def few_partitions(bed: Bed) -> list[str]:
    return [f"--set=pipelines.p.output={bed.topic(1)}", "--set=pipelines.p.dead_letter=out.dlq"]


def dead_letters(bed: Bed, **settings: Any) -> str:
    """A dead-letter topic with enough room."""
    return bed.topic(max_message_bytes=ROOM_BYTES, **settings)


def short_memory_of_dead_letters(bed: Bed) -> list[str]:
    return [f"--set=pipelines.p.dead_letter={dead_letters(bed, retention_ms=str(HOUR_MS))}"]


def compacted_dead_letters(bed: Bed) -> list[str]:
    return [f"--set=pipelines.p.dead_letter={dead_letters(bed, cleanup_policy='compact,delete')}"]


def forgetful_state(bed: Bed) -> list[str]:
    set_policy(bed, "delete")
    bed.closing.callback(set_policy, bed, "compact")
    return []


def set_policy(bed: Bed, policy: str) -> None:
    entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "streamer.dlq.state", incremental_configs=[entry])
    for future in bed.admin.incremental_alter_configs([resource]).values():
        future.result(30)


def deleted_before_read(bed: Bed) -> list[str]:
    topic = bed.topic()
    bed.write(topic, [now_ms()] * 5)
    settle(bed.address, topic, [TopicPartition(topic, 0, 1)])
    for future in bed.admin.delete_records([TopicPartition(topic, 0, 4)]).values():
        future.result(30)
    return on(topic)


def soon_deleted(bed: Bed) -> list[str]:
    topic = bed.topic(retention_ms=str(10 * HOUR_MS))
    bed.write(topic, [now_ms() - 6 * HOUR_MS])
    return on(topic)


def on(topic: str) -> list[str]:
    """The pipeline reads this one, and its group is of the same name."""
    return [f"--set=pipelines.p.input={topic}", f"--set=pipelines.p.group={topic}"]


def damaged_batch(bed: Bed) -> list[str]:
    topic = bed.topic()
    bed.write(topic, [now_ms()])
    (path,) = bed.folder.rglob(f"{topic}-0/00000000000000000000.log")
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff")
    return on(topic)


def open_transaction(bed: Bed) -> list[str]:
    topic = bed.topic()
    producer = Producer({"bootstrap.servers": bed.address, "transactional.id": topic})
    bed.closing.callback(producer.abort_transaction)
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic, b"{}", timestamp=now_ms() - HOUR_MS)
    producer.flush()
    return on(topic)


def offset_beyond_end(bed: Bed) -> list[str]:
    topic = bed.topic()
    settle(bed.address, topic, [TopicPartition(topic, 0, 7)])
    return on(topic)


def from_the_future(bed: Bed) -> list[str]:
    topic = bed.topic()
    bed.write(topic, [now_ms() + HOUR_MS // 2])
    return [f"--set=pipelines.p.input={topic}"]


def now_ms() -> int:
    return int(time.time() * 1000)


def member(foreign: bool = False, **properties: str) -> Plant:
    """Somebody in the pipeline's group."""

    def plant(bed: Bed) -> list[str]:
        group = f"doctor-{uuid4().hex[:8]}"
        bed.member(bed.topic() if foreign else "in", group, **properties)
        return [f"--set=pipelines.p.group={group}", "--set=pipelines.p.slot=s1"]

    return plant


def partition_that_nobody_reads(bed: Bed) -> list[str]:
    topic = bed.topic(1)
    bed.member(topic, topic)
    bed.admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    producer = Producer({"bootstrap.servers": bed.address})
    producer.produce(topic, b"{}", partition=1)
    assert producer.flush(30) == 0
    return on(topic)


def ring_with_a_running_pipeline(bed: Bed) -> list[str]:
    bed.member("out", f"doctor-{uuid4().hex[:8]}", client_id="streamer.in")
    return []


def offsets_of_another_program(bed: Bed) -> list[str]:
    topic = bed.topic()
    settle(bed.address, topic, [TopicPartition(topic, 0, 0)])
    return [f"--set=pipelines.p.group={topic}"]


def pickled_model(bed: Bed) -> list[str]:
    folder = bed.folder / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    return ["--set=pipelines.p.task=embedding", f"--set=pipelines.p.model={folder}"]


def model_with_code(bed: Bed) -> list[str]:
    folder = bed.folder / "code"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "_attn_implementation": "evil/kernel"}')
    weights = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "model.safetensors").write_bytes(len(weights).to_bytes(8, "little") + weights + bytes(4))
    return ["--set=pipelines.p.task=embedding", f"--set=pipelines.p.model={folder}"]


def taken_port(bed: Bed) -> list[str]:
    listening = bed.closing.enter_context(socket.create_server((LOOPBACK, 0)))
    return [f"--set=telemetry.http={LOOPBACK}:{listening.getsockname()[1]}"]


def redis_with_a_password(bed: Bed) -> list[str]:
    server = bed.redis_with("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", password="p")
    return [f"--set=cache.url=redis://:hunter2@{LOOPBACK}:{server.port}/0"]


def full_redis(bed: Bed) -> list[str]:
    return [f"--set=cache.url={bed.redis_with('--maxmemory', '1', '--maxmemory-policy', 'noeviction').url}"]


def replica_of_redis(bed: Bed) -> list[str]:
    replica = bed.redis_with(
        "--replicaof", LOOPBACK, str(bed.redis.port), "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"
    )
    return [f"--set=cache.url={replica.url}"]


def unbounded_redis(bed: Bed) -> list[str]:
    return [f"--set=cache.url={bed.redis_with().url}"]


FAULTS: dict[str, tuple[Plant, str, int]] = {
    "no broker there": (sets("kafka.bootstrap_servers=127.0.0.1:1"), "broker.unreachable", 3),
    "a wrong password": (wrong_password, "broker.refused", 3),
    "no login where one is asked": (plain_text_to_a_login, "broker.unreachable", 3),
    "an unknown property": (sets("kafka.properties.no.such=1"), "property.refused", 3),
    "dead letters into the input": (sets("pipelines.p.dead_letter=in"), "configuration.refused", 3),
    "two pipelines in a ring": (second_pipeline(input="out", output="in"), "configuration.refused", 3),
    "a partition that nobody reads": (partition_that_nobody_reads, "records.unowned", 0),
    "a ring with a running pipeline": (ring_with_a_running_pipeline, "pipelines.loop", 3),
    "two pipelines on one output": (second_pipeline(input="in", output="out"), "pipelines.output", 0),
    "a missing topic": (sets("pipelines.p.output=not-there"), "topic.missing", 3),
    "too few partitions": (few_partitions, "topic.partitions", 3),
    "no room for dead letters": (no_room_for_dead_letters, "topic.size", 0),
    "dead letters compacted away": (compacted_dead_letters, "topic.compacted", 3),
    "dead letters gone in an hour": (short_memory_of_dead_letters, "topic.retention", 0),
    "results compacted": (output(cleanup_policy="compact"), "topic.compacted", 0),
    "more replicas demanded than there are": (output(min_insync_replicas="2"), "topic.insync", 3),
    "a state topic that forgets": (forgetful_state, "topic.cleanup", 3),
    "no right to write": (no_right_to_write, "topic.rights", 3),
    "no right to the group": (no_right_to_write, "group.rights", 3),
    "another assignor in the group": (member(partition_assignment_strategy="range"), "group.assignor", 3),
    "a group shared with other topics": (member(foreign=True), "group.topics", 3),
    "an alien in the group": (member(client_id="script"), "group.alien", 3),
    "a copied configuration in the group": (member(client_id="streamer.elsewhere"), "group.output", 3),
    "the slot's owner is alive": (member(group_instance_id="s1"), "group.slot", 3),
    "offsets of another program": (offsets_of_another_program, "group.foreign_offsets", 0),
    "records deleted before they were read": (deleted_before_read, "records.gone", 3),
    "records about to be deleted": (soon_deleted, "records.expiring", 3),
    "a batch that is damaged": (damaged_batch, "records.unreadable", 3),
    "a transaction left open": (open_transaction, "records.open_transaction", 3),
    "an offset beyond the log": (offset_beyond_end, "records.offset_beyond_end", 3),
    "a record from the future": (from_the_future, "clock.future", 0),
    "a transaction longer than allowed": (
        sets("kafka.properties.transaction.timeout.ms=1000000"),
        "timing.transaction",
        3,
    ),
    "a session shorter than allowed": (sets("kafka.properties.session.timeout.ms=3000"), "timing.session", 3),
    "polls due before a hand-over ends": (sets("kafka.properties.max.poll.interval.ms=10000"), "timing.poll", 3),
    "a pickled model": (pickled_model, "model.refused", 3),
    "a model that wants its code run": (model_with_code, "model.refused", 3),
    "a GPU that is not there": (sets("pipelines.p.device=cuda:99"), "device.absent", 3),
    "more memory than there is": (sets("cache.memory_mb=100000000"), "machine.memory", 3),
    "more threads than cores": (sets("pipelines.p.threads=1024"), "machine.cores", 0),
    "a port that is taken": (taken_port, "http.taken", 3),
    "a key that is too short": (sets("cache.key_file=/dev/null"), "cache.key", 3),
    "no Redis there": (sets("cache.url=redis://127.0.0.1:1/0"), "cache.unreachable", 0),
    "a wrong password for Redis": (redis_with_a_password, "cache.login", 0),
    "a Redis that is full": (full_redis, "cache.unwritable", 0),
    "a Redis that will be full": (full_redis, "cache.eviction", 0),
    "an option that Redis' client has not": (sets("cache.url=redis://:hunter2@r:1/0?no_such=1"), "cache.url", 3),
    "a replica of Redis": (replica_of_redis, "cache.unwritable", 0),
    "a Redis without bound": (unbounded_redis, "cache.unbounded", 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """By its code, with a fix; errors exit 3, warnings alone 0; no secret is shown."""
    plant, code, exit_code = FAULTS[fault]
    arguments = plant(bed)
    ended, told = examined(bed, capsys, "--no-model", *arguments)
    found = {finding["code"]: finding for finding in told["findings"]}
    assert code in found, told["findings"]
    assert (ended, told["ok"]) == (exit_code, exit_code == 0), told["findings"]
    assert found[code]["what"] and found[code]["fix"] and found[code]["where"]
    assert found[code]["severity"] == ("error" if exit_code else "warning")
    assert "hunter2" not in json.dumps(told)
    if plant is plain_text_to_a_login:  # the client hears no more than that the connection ended
        assert found[code]["what"] == "it asks for a login (PLAIN)"


@pytest.mark.case(53)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("doctor --no-model", ExitCode.CONFIGURATION),
        ("lag", ExitCode.DEPENDENCY),
        ("topics check", ExitCode.DEPENDENCY),
        ("topics create", ExitCode.DEPENDENCY),
        ("tail results", ExitCode.DEPENDENCY),
        ("dlq list", ExitCode.DEPENDENCY),
        ("dlq replay", ExitCode.DEPENDENCY),
        ("run --until-end", ExitCode.DEPENDENCY),
    ],
)
def test_every_command_names_an_announced_address_where_nobody_answers(command: str, code: ExitCode, bed: Bed) -> None:
    """Soon, with the address that does answer, the setting that is wrong, and no traceback."""
    config = bed.folder / "misled.toml"
    config.write_text(bed.config.read_text().replace(bed.address, bed.misled))
    ended = subprocess.run(
        [sys.executable, "-m", "streamer", *command.split(), "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == code, said
    assert all(word in said for word in (bed.misled, bed.closed, "advertised.listeners")), said
    assert "Traceback" not in said


def test_a_model_that_does_not_load_is_found_in_a_worker(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """What its files do not show: the class is looked for where a run would."""
    code, told = examined(bed, capsys, "--set=pipelines.p.model=python:no_such_module:Model")
    assert (code, [finding["code"] for finding in told["findings"]]) == (ExitCode.CONFIGURATION, ["model.refused"])


def test_people_read_what_was_looked_at_and_what_to_do(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each check, then each finding with its fix, then the sum."""
    capsys.readouterr()
    main(["doctor", "--config", str(bed.config), "--no-model", "--set=pipelines.p.output=not-there"])
    shown = capsys.readouterr().out
    assert "✓ Kafka" in shown
    assert "✗ topics" in shown
    assert "error topic.missing · not-there\n      does not exist\n      fix: run `streamer topics create`" in shown
    assert shown.endswith("errors, 0 warnings\n")
