"""The real Kafka and Redis of the tests, one of each for a whole session.

In order of choice: the addresses in STREAMER_TEST_KAFKA and STREAMER_TEST_REDIS, containers where a Docker engine
answers, processes of streamer.local.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs

from streamer.local import Stack
from streamer.local.docker import engine_answers
from streamer.local.jars import KAFKA_VERSION
from streamer.local.ports import LOOPBACK, free_ports

if "PYTEST_XDIST_WORKER" in os.environ:  # with threads for each core they would wait for one another's
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Brokers of tests end before the optimising compiler has paid: without it they need half of the processor's time.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

# On a busy machine any example may take longer than a fifth of a second.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_CONTAINER_DEADLINE_S = 120

# About what a test of these folders takes, and one that is marked as slow; others take a tenth of a second.
_SECONDS = {"acceptance": 4.0, "integration": 1.6, "answers": 0.3}
_SLOW_S = 15.0
_WAITING = ("acceptance", "integration")


@pytest.fixture(autouse=True)
def interruptible() -> None:
    """An interrupt is a KeyboardInterrupt in each test, whatever a shell ignores for what it runs in the background,
    and whatever an earlier test left."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


ABORT_SCAN_MS = 1_000
"""How often the broker ends transactions that are out of time. At its default of 10 s, a member that is killed inside
of one is followed ten seconds later than one that is killed between two."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """A Kafka for the tests."""

    bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis for the tests."""

    url: str


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A running Kafka of one broker, shared by all tests: give topics and groups names of their own."""
    if given := os.environ.get("STREAMER_TEST_KAFKA"):
        yield Kafka(given)
        return
    if engine_answers():
        (port,) = free_ports(1)
        with _container(f"apache/kafka:{KAFKA_VERSION}", port, port, _kafka_environment(port)) as container:
            wait_for_logs(container, "Kafka Server started", timeout=_CONTAINER_DEADLINE_S)
            yield Kafka(f"{LOOPBACK}:{port}")
        return
    broker = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": ABORT_SCAN_MS}
    with Stack.start(redis=False, kafka_config=broker) as stack:
        yield Kafka(stack.bootstrap_servers)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A running Redis, shared by all tests: give keys a prefix of their own."""
    if given := os.environ.get("STREAMER_TEST_REDIS"):
        yield Redis(given)
        return
    if engine_answers():
        (port,) = free_ports(1)
        with _container("redis:7", port, 6379, {}) as container:
            wait_for_logs(container, "Ready to accept connections", timeout=_CONTAINER_DEADLINE_S)
            yield Redis(f"redis://{LOOPBACK}:{port}/0")
        return
    with Stack.start(kafka=False) as stack:
        assert stack.redis_url is not None
        yield Redis(stack.redis_url)


def _container(image: str, host_port: int, container_port: int, environment: dict[str, str]) -> DockerContainer:
    container = DockerContainer(image)
    # Docker takes a pair of address and port; testcontainers passes it on.
    container.ports[f"{container_port}/tcp"] = (LOOPBACK, host_port)  # type: ignore[assignment]
    for name, value in environment.items():
        container.with_env(name, value)
    return container


def _kafka_environment(port: int) -> dict[str, str]:
    # The listener's port is the same inside and outside, because clients are sent to the advertised one.
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://localhost:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS": str(ABORT_SCAN_MS),
    }


@pytest.fixture(autouse=True, scope="module")
def _collector_spared() -> None:
    """Each load of a model collects garbage, and what torch and transformers are made of takes the collector half a
    second to walk through: what is there before a file's first test stays there anyway."""
    gc.collect()
    gc.freeze()


gc.disable()  # while the libraries are imported and the tests collected, which leaves no garbage to speak of

# OpenVINO counts what is left at the very end. Unfrozen any earlier, it would all be walked through twice by pytest.
atexit.register(gc.unfreeze)

# What pytest has made of the tests is kept for its next run, also where PYTHONDONTWRITEBYTECODE is set: it takes each
# worker 3 s. That holds again before the first test, whose processes may import a module that is rewritten at once.
_dont_write_bytecode = sys.dont_write_bytecode
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """From now on there is."""
    gc.enable()
    sys.dont_write_bytecode = _dont_write_bytecode


@pytest.fixture(autouse=True)
def _logs_as_they_are_at_first() -> None:
    """A command that another test ran in this process set its log up, and records would go another way."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("streamer").setLevel(logging.NOTSET)
    logging.getLogger("streamer").propagate = True


@pytest.hookimpl(trylast=True)  # after what is not wanted was left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers that run side by side take files in this order. The tests of some folders wait for processes, elections
    and time limits most of the time, those of others compute: of both kinds there is always one under way, until all is
    done, so that no core idles while there is work, and none is fought for by three. Long files come first, so that
    nobody waits for the last one."""
    if not hasattr(config, "workerinput"):
        return
    files: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    lengths_s = {path: sum(map(_seconds, own)) for path, own in files.items()}
    done: dict[Path, float] = {}  # which part of its kind's time has passed when a file is begun
    for waiting in (True, False):
        kind = [path for path in files if (path.parent.name in _WAITING) is waiting]
        passed_s, total_s = 0.0, sum(lengths_s[path] for path in kind)
        for path in sorted(kind, key=lengths_s.__getitem__, reverse=True):
            done[path] = passed_s / total_s
            passed_s += lengths_s[path]
    items[:] = [item for path in sorted(files, key=done.__getitem__) for item in files[path]]


def _seconds(item: pytest.Item) -> float:
    return _SLOW_S if item.get_closest_marker("slow") else _SECONDS.get(item.path.parent.name, 0.1)
