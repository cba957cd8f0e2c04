"""`streamer run`: one pipeline in this process, or one child process for each of several."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from streamer.config import Config
from streamer.cores import OneCore
from streamer.errors import ExitCode
from streamer.heap import share_one_arena
from streamer.workers import RunOptions, pipeline_of, start_workers

if TYPE_CHECKING:
    from streamer.assemble import Assembly
    from streamer.telemetry.http import Server, Verdict

RESTART_PAUSE_S = 1.0
RESTART_PAUSE_MAX_S = 30.0
STEADY_S = 60.0
STANDING_S = 30.0
TELEMETRY_CLOSE_S = 3.0
GC_THRESHOLDS = (200_000, 20, 100)
FINAL = frozenset({ExitCode.DONE, ExitCode.USAGE, ExitCode.CONFIGURATION, ExitCode.HALTED, ExitCode.FENCED})
"""Ends that a restart does not mend."""

log = logging.getLogger(__name__)


def run_pipeline(config: Config, name: str, options: RunOptions) -> ExitCode:
    """Run one pipeline in this process until it is done or a signal stops it.

    SIGTERM or SIGINT stops gracefully within `stop_deadline_s`; the second one ends the process now: its open
    transaction is aborted by the broker, its workers end with it.
    """
    within_s = pipeline_of(config, name).stop_deadline_s
    assembly: Assembly | None = None
    signals = 0

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(ExitCode.SECOND_SIGNAL)
        log.info("stopping", extra={"data": {"signal": signal.Signals(number).name, "within_s": within_s}})
        if assembly is not None:
            assembly.driver.stop(within_s)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    share_one_arena()
    started = start_workers(config, name, options)
    from streamer.outlet import open_outlet  # while the workers load

    outlet = open_outlet(config, name, started)
    from streamer.assemble import assemble  # while the brokers answer, too
    from streamer.telemetry.stacks import StandingWatch

    assembly = assemble(config, name, options, started, outlet)
    if signals:
        assembly.driver.stop(within_s)
    server = _serve(config, assembly, options.index)
    watch = StandingWatch(partial(standing, assembly))
    watch.start()
    one_core = OneCore()
    one_core.start()
    spare_the_collector()
    try:
        return assembly.driver.run()
    finally:
        one_core.close()
        watch.close()
        assembly.close(TELEMETRY_CLOSE_S)
        if server is not None:
            server.close()


def spare_the_collector() -> None:
    """Tell the cyclic garbage collector of the load to come: records make hundreds of thousands of young objects that
    are no cycles. At CPython's thresholds it takes a quarter of the driver's time (`streamer bench throughput`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _serve(config: Config, assembly: Assembly, index: int) -> Server | None:
    """/metrics, /livez and /readyz. Of several pipelines each has its own port: the configured one and those after."""
    if not config.telemetry.http:
        return None
    from streamer.telemetry.http import Verdict, start  # imported while the brokers and the workers answer

    host, _, port = config.telemetry.http.rpartition(":")
    address = f"{host}:{int(port) + index if int(port) else 0}"

    def livez() -> Verdict:
        reasons = standing(assembly)
        return Verdict(not reasons, tuple(reasons))

    def readyz() -> Verdict:
        reasons = unready(assembly)
        return Verdict(not reasons, tuple(reasons))

    server = start(address, assembly.metrics.registry, livez, readyz)
    log.info("metrics and health are served", extra={"data": {"address": server.address}})
    return server


def unready(assembly: Assembly) -> list[str]:
    """What keeps the pipeline from serving."""
    from streamer.observe import unready as unready_of

    return unready_of(
        assembly.pipeline,
        owns=bool(assembly.source.ownership.epochs),
        plan_since=assembly.sink.plan_since,
        standings=assembly.signals.standings,
        now=time.monotonic(),
    )


def standing(assembly: Assembly) -> list[str]:
    """Which of our own loops stand still; broken dependencies are not among the reasons, since a restart of ours
    does not mend them."""
    now = time.monotonic()
    reasons = assembly.driver.standing(STANDING_S)
    if assembly.pipeline.card is not None and now - assembly.source.polled_at > STANDING_S:
        reasons.append(f"the source has not polled for {now - assembly.source.polled_at:.0f} s")
    busy_since = assembly.sink.busy_since
    if busy_since is not None and now - busy_since > assembly.watchdog.limit_s:
        reasons.append(f"the sink has been at one plan for {now - busy_since:.0f} s")
    return reasons


@dataclass(slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    exit_code: int | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs each pipeline in a child process, restarts what crashed, and stops all together.

    A child that ends for good (done, halted, fenced, wrong configuration) leaves the others running; the exit code is
    the highest of all.
    """

    names: Sequence[str]
    arguments: Sequence[str]
    within_s: float
    _children: list[_Child] = field(default_factory=list)
    _signals: int = 0
    _kill_at: float = float("inf")

    def run(self) -> ExitCode:
        """Run until all children have ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._children = [_Child(name) for name in self.names]
        while any(child.exit_code is None for child in self._children):
            now = time.monotonic()
            for child in self._children:
                self._look_after(child, now)
            time.sleep(0.05)
        if self._signals > 1:
            return ExitCode.SECOND_SIGNAL
        worst = max(child.exit_code or 0 for child in self._children)
        return ExitCode(worst) if worst in set(ExitCode) else ExitCode.BUG

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._kill_at = time.monotonic() + self.within_s + 10.0
        for child in self._children:
            if child.process is not None:
                child.process.send_signal(number)

    def _look_after(self, child: _Child, now: float) -> None:
        if child.exit_code is not None:
            return
        if child.process is None:
            if self._signals:
                child.exit_code = ExitCode.DONE
            elif now >= child.restart_at:
                self._start(child, now)
            return
        code = child.process.poll()
        if code is None:
            if now > self._kill_at:
                child.process.kill()
            return
        child.process = None
        if self._signals or code in FINAL:
            child.exit_code = code if code >= 0 else ExitCode.DRAIN_DEADLINE
            return
        child.failures = 1 if now - child.started > STEADY_S else child.failures + 1
        pause_s = min(RESTART_PAUSE_S * 2 ** (child.failures - 1), RESTART_PAUSE_MAX_S)
        child.restart_at = now + pause_s
        log.error(
            "a pipeline's process ended and is started again",
            extra={"data": {"pipeline": child.name, "exit_code": code, "pause_s": pause_s}},
        )

    def _start(self, child: _Child, now: float) -> None:
        index = list(self.names).index(child.name)
        command = [
            *(sys.executable, "-m", "streamer", "run", *self.arguments),
            *("--pipeline", child.name, "--siblings", str(len(self.names)), "--index", str(index)),
        ]
        # A group of its own: a terminal's Ctrl-C reaches us alone, and the child once, through us.
        child.process = subprocess.Popen(command, preexec_fn=_end_with_parent, process_group=0)
        child.started = now


def _end_with_parent() -> None:
    """In the child: get SIGTERM when the supervisor's process ends, however it ends (Linux)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)
