"""The members of the group: `streamer run` processes with slots of their own, each behind proxies of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from streamer.bench.harness.bench import PIPELINE, Setup
from streamer.bench.harness.program import Program
from streamer.bench.harness.proxy import Proxy
from streamer.errors import DependencyError, ExitCode
from streamer.inference.spec import WORKER_NAME
from streamer.local.watchdog import started_at
from streamer.telemetry.scrape import scrape

STOP_S = 40.0
RESTART_PAUSE_S = 1.0
FOR_GOOD = frozenset({ExitCode.BUG, ExitCode.USAGE, ExitCode.CONFIGURATION, ExitCode.HALTED, ExitCode.FENCED})
"""Ends that no fault excuses."""


@dataclass(slots=True)
class Member:
    """One slot. Only the thread that made it may start, kill and tend it: its process ends with that thread. `http` is
    where it serves its metrics and health."""

    slot: str
    setup: Setup
    link: list[Proxy]
    properties: Mapping[str, str]
    http: str
    program: Program | None = None
    wanted: bool = False
    ends: list[int] = field(default_factory=list)
    _starts: int = 0
    _ended_at: float = 0.0
    _workers: dict[int, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start the process; returns at once."""
        self.wanted = True
        self._starts += 1
        environment = {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.link),
            f"STREAMER_PIPELINES__{PIPELINE.upper()}__SLOT": self.slot,
            "STREAMER_TELEMETRY__HTTP": self.http,
            **{
                f"STREAMER_KAFKA__PROPERTIES__{name.upper().replace('.', '_')}": value
                for name, value in self.properties.items()
            },
        }
        command = [sys.executable, "-m", "streamer", "run", f"--config={self.setup.path}"]
        self.program = Program(command, self.setup.path.with_name(f"{self.slot}-{self._starts}.log"), environment)

    def well(self) -> bool:
        """Whether its /readyz says so; from any thread."""
        try:
            return bool(scrape(f"http://{self.http}/metrics").ready)
        except DependencyError:
            return False

    def kill(self) -> None:
        """SIGKILL; it stays away until `start`."""
        self.wanted = False
        self.worker_pids()
        if self.program is not None:
            self.program.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the driver alone."""
        if self.program is not None:
            with suppress(ProcessLookupError):
                os.kill(self.program.pid, number)

    def tend(self) -> None:
        """Start it again when it has ended by itself, as its supervisor would."""
        if not self.wanted or self.program is None or (code := self.program.exit_code) is None:
            return
        if not self._ended_at:
            self._ended_at = time.monotonic()
            self.ends.append(code)
        elif time.monotonic() - self._ended_at > RESTART_PAUSE_S:
            self._ended_at = 0.0
            self.start()

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self.wanted = False
        self.signal(signal.SIGTERM)

    def await_end(self) -> int:
        """The exit code; killed when it does not end in time."""
        assert self.program is not None
        deadline = time.monotonic() + STOP_S
        while (code := self.program.exit_code) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.program.kill()
        return ExitCode.DRAIN_DEADLINE if code is None else code

    def owned(self) -> dict[int, float]:
        """The input's partitions that it owns by its own log, each with the time of its assignment."""
        if self.program is None or not self.wanted:
            return {}
        return owned_by_log(self.program.log.read_text(errors="replace"), self.setup.input)

    def given(self) -> dict[int, float]:
        """When the group last gave it each partition; it owns it once no transaction of the last owner is open."""
        if self.program is None or not self.wanted:
            return {}
        return given_by_log(self.program.log.read_text(errors="replace"), self.setup.input)

    def worker_pids(self) -> list[int]:
        """The workers that live now; all that were ever seen are remembered for `kill_leftovers`."""
        if self.program is None:
            return []
        found = [pid for pid in _descendants(self.program.pid) if _is_worker(pid)]
        self._workers.update((pid, started_at(pid) or "") for pid in found if pid not in self._workers)
        return found

    def kill_leftovers(self) -> None:
        """Workers that outlived their driver because they were frozen."""
        for pid, started in self._workers.items():
            if started and started_at(pid) == started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def owned_by_log(log: str, topic: str) -> dict[int, float]:
    """The partitions of `topic` that a member owns at the end of its log, with the times of their assignments."""
    owned: dict[int, float] = {}
    for word, partitions, at in _said(log, topic, ("assigned", "revoked", "lost")):
        if word == "assigned":
            owned.update(dict.fromkeys(partitions, at))
        else:
            for partition in partitions:
                owned.pop(partition, None)
    return owned


def given_by_log(log: str, topic: str) -> dict[int, float]:
    """The partitions of `topic` that the group ever gave a member, each with the last time."""
    return {one: at for _, partitions, at in _said(log, topic, ("taking over",)) for one in partitions}


def _said(log: str, topic: str, words: tuple[str, ...]) -> Iterator[tuple[str, list[int], float]]:
    for line in log.splitlines():
        if not any(f'"message":"{word}"' in line for word in words):
            continue
        try:
            said = json.loads(line)
        except ValueError:  # the last line, half written
            continue
        partitions = [number for name, number in said["partitions"] if name == topic]
        yield said["message"], partitions, datetime.fromisoformat(said["time"]).timestamp()


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, path.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _is_worker(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == WORKER_NAME
    return False
