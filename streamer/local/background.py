"""The stack that `streamer local up` leaves running: it is written down, so that `down` ends just that."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from streamer.errors import UsageError
from streamer.local import docker
from streamer.local.kafka import live_brokers
from streamer.local.lock import file_lock
from streamer.local.ports import LOOPBACK, free_ports, port_is_free
from streamer.local.process import LocalProcess
from streamer.local.redis import redis_answers
from streamer.local.stack import Stack
from streamer.local.watchdog import remove_folders, signal_group, started_at

Part = Literal["kafka", "redis"]
PARTS: tuple[Part, ...] = ("kafka", "redis")

# What clients try when they are told nothing else.
_USUAL_PORTS: dict[Part, int] = {"kafka": 9092, "redis": 6379}
_STOP_DEADLINE_S = 30.0
_POLL_S = 0.02


class BackgroundProcess(msgspec.Struct, frozen=True):
    """A process left running. Its number and its start together name it: numbers are given again to others."""

    part: Part
    pid: int
    started: str
    log: str

    @property
    def running(self) -> bool:
        """Whether this very process still exists."""
        return started_at(self.pid) == self.started


class BackgroundStack(msgspec.Struct, frozen=True):
    """What `up` started: the first broker's or the server's `ports` by part, and the processes if not containers."""

    engine: Literal["processes", "docker"]
    ports: dict[Part, int]
    brokers: int
    directory: str
    processes: list[BackgroundProcess]

    @property
    def bootstrap_servers(self) -> str | None:
        """Kafka's addresses; None without Kafka."""
        first = self.ports.get("kafka")
        if first is None:
            return None
        return ",".join(f"{LOOPBACK}:{first + n}" for n in range(self.brokers))

    @property
    def redis_url(self) -> str | None:
        """Redis's address; None without Redis."""
        return f"redis://{LOOPBACK}:{self.ports['redis']}/0" if "redis" in self.ports else None

    def answers(self, part: Part) -> bool:
        """Whether `part` answers a real request now."""
        port = self.ports.get(part)
        if port is None:
            return False
        if part == "redis":
            return redis_answers(port)
        with suppress(OSError):
            return len(live_brokers(port)) == self.brokers
        return False

    def pids(self, part: Part) -> list[int]:
        """The processes of `part` that exist; none for containers."""
        return [process.pid for process in self.processes if process.part == part and process.running]

    def log_paths(self, part: Part) -> list[Path]:
        """The log files of `part`; none for containers."""
        return [Path(process.log) for process in self.processes if process.part == part]


def state_directory() -> Path:
    """Where the record and the data lie: `$XDG_STATE_HOME/streamer`, by default `~/.local/state/streamer`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "streamer"


def recorded() -> BackgroundStack | None:
    """What `up` started last and `down` has not ended; whether it still runs is another question."""
    try:
        return msgspec.json.decode(_record().read_bytes(), type=BackgroundStack)
    except FileNotFoundError:
        return None


def up(parts: set[Part], ports: Mapping[Part, int], brokers: int) -> tuple[BackgroundStack, bool]:
    """Start the parts, unless they run, and leave them running; the second value says whether it started them.

    `ports` are those that the user named; else the usual ones are taken if free. Uses containers where a Docker engine
    answers and one broker is wanted. Raises UsageError if a stack of another shape runs, MissingPart, StartFailed.
    """
    with file_lock(_lock()):
        before = recorded()
        if before is not None and all(before.answers(part) for part in before.ports):
            if not parts <= before.ports.keys() or ("kafka" in parts and brokers != before.brokers):
                raise UsageError(
                    "a local stack with other parts is running: `streamer local down` first, then up again"
                )
            return before, False
        if before is not None:
            _end(before, keep_data=True)
        chosen = {part: ports.get(part) or _usual_or_free_port(part, brokers) for part in PARTS if part in parts}
        if brokers == 1 and docker.engine_answers():
            docker.compose_up(list(chosen), chosen.get("kafka", 9092), chosen.get("redis", 6379))
            stack = BackgroundStack("docker", chosen, brokers, "", [])
            _write(stack)
            return stack, True
        return _start_processes(chosen, brokers), True


def down(*, keep_data: bool) -> BackgroundStack | None:
    """End what `up` started and, unless it is to be kept, remove its data; returns what it ended."""
    with file_lock(_lock()):
        stack = recorded()
        if stack is not None:
            _end(stack, keep_data=keep_data)
        return stack


def _start_processes(ports: dict[Part, int], brokers: int) -> BackgroundStack:
    directory = state_directory() / "local"
    named: dict[str, int] = dict(ports.items())
    # keep: the folder may hold what an earlier `down --keep-data` left, which a failed start must not remove.
    running = Stack.start(
        kafka="kafka" in ports, redis="redis" in ports, brokers=brokers, directory=directory, keep=True, ports=named
    )
    try:
        processes = [_background("kafka", process) for process in running.kafka_processes]
        if running.redis_process is not None:
            processes.append(_background("redis", running.redis_process))
        stack = BackgroundStack("processes", ports, brokers, str(directory), processes)
        _write(stack)
    except BaseException:
        running.close()
        raise
    running.detach()
    return stack


def _background(part: Part, process: LocalProcess) -> BackgroundProcess:
    return BackgroundProcess(part, process.pid, process.started, str(process.log_path))


def _end(stack: BackgroundStack, *, keep_data: bool) -> None:
    if stack.engine == "docker":
        docker.compose_down(keep_data=keep_data)
    else:
        _end_processes(stack.processes)
        if not keep_data:
            remove_folders(Path(process.log).parent for process in stack.processes)
    _record().unlink(missing_ok=True)


def _end_processes(processes: list[BackgroundProcess]) -> None:
    for process in processes:
        if process.running:
            signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_DEADLINE_S
    killed = False
    while alive := [process for process in processes if process.running]:
        if not killed and time.monotonic() > deadline:
            for process in alive:
                signal_group(process.pid, signal.SIGKILL)
            killed = True
        time.sleep(_POLL_S)


def _usual_or_free_port(part: Part, brokers: int) -> int:
    usual = _USUAL_PORTS[part]
    wanted = brokers if part == "kafka" else 1
    if all(port_is_free(usual + n) for n in range(wanted)):
        return usual
    return free_ports(wanted, adjacent=True)[0]


def _write(stack: BackgroundStack) -> None:
    record = _record()
    partial = record.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(stack)))
    partial.replace(record)


def _record() -> Path:
    return state_directory() / "local.json"


def _lock() -> Path:
    return state_directory() / "local.lock"
