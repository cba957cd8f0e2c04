"""The local stack: real brokers and a real Redis, that keep their data and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from redis import Redis

from streamer.local import PortTaken, Stack, StartFailed
from streamer.local.kafka import live_brokers
from streamer.local.ports import LOOPBACK
from streamer.local.redis import redis_answers
from streamer.local.watchdog import started_at
from tests.waiting import wait_for

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack of its own for tests that restart and kill."""
    with Stack.start() as stack:
        yield stack


def _create_topic(bootstrap_servers: str, topic: str, replicas: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, replicas)])[topic].result(DEADLINE_S)


def _produce(bootstrap_servers: str, topic: str, value: bytes) -> None:
    failures = []
    producer = Producer({"bootstrap.servers": bootstrap_servers, "log_level": 0, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(DEADLINE_S) == 0
    assert failures == [None]


def _first_value(bootstrap_servers: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": topic, "log_level": 0})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(DEADLINE_S)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def _answers(redis_url: str | None) -> bool:
    assert redis_url is not None
    return bool(Redis.from_url(redis_url).ping())


@pytest.mark.slow
def test_record_outlives_a_stop_and_a_kill(stack: Stack) -> None:
    """A broker that was stopped or killed comes back on its port with its records."""
    (broker,) = stack.kafka_processes
    _create_topic(stack.bootstrap_servers, "outlives")
    _produce(stack.bootstrap_servers, "outlives", b"kept")
    before = broker.pid
    broker.restart()
    assert broker.pid != before
    assert _first_value(stack.bootstrap_servers, "outlives") == b"kept"
    broker.kill()
    assert not broker.running
    broker.restart()
    assert _first_value(stack.bootstrap_servers, "outlives") == b"kept"


def test_redis_comes_back_on_its_port(stack: Stack) -> None:
    """A killed Redis serves again at the same address after a restart."""
    assert stack.redis_process is not None
    assert _answers(stack.redis_url)
    stack.redis_process.kill()
    assert not stack.redis_process.running
    stack.redis_process.restart()
    assert _answers(stack.redis_url)


def test_paused_process_is_silent_until_resumed(stack: Stack) -> None:
    """A paused Redis exists and answers nothing; resumed, it answers."""
    assert stack.redis_process is not None
    assert stack.redis_url is not None
    port = int(stack.redis_url.rpartition(":")[2].partition("/")[0])
    stack.redis_process.pause()
    try:
        assert stack.redis_process.running
        assert not redis_answers(port)
    finally:
        stack.redis_process.resume()
    wait_for(lambda: redis_answers(port))


def test_topics_are_not_created_by_asking_for_them(stack: Stack) -> None:
    """A misspelt topic is an error, not a new topic."""
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    admin.list_topics("misspelt", timeout=DEADLINE_S)
    assert "misspelt" not in admin.list_topics(timeout=DEADLINE_S).topics


def test_end_leaves_no_process_and_no_data() -> None:
    """After the with block, also one left by an error or with a paused process, nothing runs and nothing is on disk."""
    with pytest.raises(KeyError), Stack.start(kafka=False) as stack:
        assert stack.redis_process is not None
        stack.redis_process.pause()
        raise KeyError
    assert [started_at(process.pid) for process in stack.processes] == [None]
    assert not stack.directory.exists()


def test_kept_data_is_used_again(tmp_path: Path) -> None:
    """`keep` leaves topics and logs, and a later start with the same directory has them; without it they go."""
    with Stack.start(redis=False, directory=tmp_path / "data", keep=True) as stack:
        _create_topic(stack.bootstrap_servers, "kept")
        _produce(stack.bootstrap_servers, "kept", b"again")
    assert stack.kafka_processes[0].log_path.exists()
    with Stack.start(redis=False, directory=tmp_path / "data") as stack:
        assert _first_value(stack.bootstrap_servers, "kept") == b"again"
    assert not (tmp_path / "data").exists()


def test_killed_starter_takes_its_processes_along(tmp_path: Path) -> None:
    """`kill -9` of the process that started a stack ends the brokers and Redis and removes the data."""
    program = (
        "import json, sys, time; from streamer.local import Stack\n"
        "stack = Stack.start(directory=sys.argv[1])\n"
        "print(json.dumps([process.pid for process in stack.processes]), flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        pids = json.loads(starter.stdout.readline())
        assert len(pids) == 2
        assert all(started_at(pid) for pid in pids)
        starter.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(started_at(pid) for pid in pids))
    wait_for(lambda: not (tmp_path / "data").exists())


def test_taken_port_is_named(tmp_path: Path) -> None:
    """A port that another program holds is reported with its number, and nothing is started."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} "):
            Stack.start(kafka=False, directory=tmp_path / "data", ports={"redis": port})
    assert not (tmp_path / "data").exists()


def test_failed_start_shows_the_log(tmp_path: Path) -> None:
    """A broker that does not come up is reported with the reason from its log."""
    with pytest.raises(StartFailed, match=r"num\.io\.threads"):
        Stack.start(redis=False, directory=tmp_path / "data", kafka_config={"num.io.threads": 0})
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
@pytest.mark.every_way
def test_three_brokers_are_one_cluster_that_bears_a_loss() -> None:
    """With three brokers a replicated topic takes and gives records while one broker is dead."""
    with Stack.start(redis=False, brokers=3) as stack:
        assert live_brokers(int(stack.bootstrap_servers.rpartition(":")[2])) == {1, 2, 3}
        _create_topic(stack.bootstrap_servers, "replicated", replicas=3)
        _produce(stack.bootstrap_servers, "replicated", b"first")
        stack.kafka_processes[0].kill()
        _produce(stack.bootstrap_servers, "replicated", b"second")
        assert _first_value(stack.bootstrap_servers, "replicated") == b"first"
        stack.kafka_processes[0].restart()
        assert live_brokers(int(stack.bootstrap_servers.partition(",")[0].rpartition(":")[2])) == {1, 2, 3}


class _Command:
    """`streamer local` with a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self._environment = {"XDG_STATE_HOME": str(state)}

    def __call__(self, *arguments: str) -> str:
        program = "from streamer.cli.local import local; local()"
        command = [sys.executable, "-c", program, *arguments]
        environment = os.environ | self._environment
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self("status", "--json"))
        return status


@pytest.fixture
def command(tmp_path: Path) -> Iterator[_Command]:
    """The command; what it left running is ended."""
    command = _Command(tmp_path)
    yield command
    command("down")


def test_up_leaves_running_what_down_ends(command: _Command, tmp_path: Path) -> None:
    """`up` outlives its command and is idempotent; `status` and `logs` tell of it; `down` leaves nothing."""
    first = json.loads(command("up", "--no-kafka", "--json"))
    assert first["redis"]["state"] == "running"
    assert first["kafka"] == {"state": "absent", "address": None, "pids": []}
    assert _answers(first["redis"]["address"])
    assert "Already running" in command("up", "--no-kafka")
    assert command.status() == first
    assert "Ready to accept connections" in command("logs", "redis", "-n", "1")
    command("down")
    assert command.status()["redis"]["state"] == "absent"
    assert [started_at(pid) for pid in first["redis"]["pids"]] == [None]
    assert not (tmp_path / "streamer" / "local").exists()


def test_up_replaces_what_died(command: _Command) -> None:
    """After a part was killed, `status` says so and `up` starts it again."""
    (pid,) = json.loads(command("up", "--no-kafka", "--json"))["redis"]["pids"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: started_at(pid) is None)
    assert command.status()["redis"]["state"] == "absent"
    again = json.loads(command("up", "--no-kafka", "--json"))["redis"]
    assert again["state"] == "running"
    assert again["pids"] != [pid]


def test_down_can_keep_the_topics(command: _Command) -> None:
    """Topics and records are there again after `down --keep-data` and `up`."""
    address = json.loads(command("up", "--no-redis", "--json"))["kafka"]["address"]
    _create_topic(address, "kept")
    _produce(address, "kept", b"again")
    command("down", "--keep-data")
    assert command.status()["kafka"]["state"] == "absent"
    address = json.loads(command("up", "--no-redis", "--json"))["kafka"]["address"]
    assert _first_value(address, "kept") == b"again"
