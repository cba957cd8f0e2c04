"""Runs the steps, each in a process of its own with a time limit: one that crashes or hangs costs itself alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from streamer.bench.device.report import Line, Report, State, read
from streamer.bench.device.steps import Settings, Step, enter, touch

SIDE_BY_SIDE = 6
LEAST_S = 10.0
"""A step that has less is not begun."""
TOUCH_S = FOUND_S = 60.0
RESULTS, LOG = "results.jsonl", "device.log"
_PRELOADED = ["streamer.bench.device.preload"]
_POLL_S = 1.0


@dataclass(slots=True)
class _Running:
    step: Step
    process: BaseProcess
    ends: float
    """On the monotonic clock."""


def run_all(
    steps: Sequence[Step], settings: Settings, out: Path, minutes: float, progress: Callable[[str], None]
) -> list[Line]:
    """Run them in order, as many as the time allows; returns what they found, which `out` holds too."""
    began = time.monotonic()
    deadline = began + 60 * minutes
    results, log = out / RESULTS, out / LOG
    results.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    progress("importing")
    context = _context(settings.device)
    waiting, running = [step for step in steps if not (step.again and settings.small)], list[_Running]()
    most = max(1, min(SIDE_BY_SIDE, len(os.sched_getaffinity(0))))
    try:
        while waiting or running:
            now = time.monotonic()
            if waiting and may_start(waiting[0], [one.step for one in running], most):
                step = waiting.pop(0)
                if deadline - now < LEAST_S:
                    Report(results, began, step.name).end(State.SKIPPED, "no time was left")
                    continue
                progress(f"{step.name}, {now - began:.0f} s so far")
                Report(results, began, step.name).begin()
                process = context.Process(target=enter, args=(step, settings, results, began, log), name=step.name)
                process.start()
                running.append(_Running(step, process, min(now + step.limit_s, deadline)))
                continue
            wait([one.process.sentinel for one in running], timeout=_POLL_S)
            running = [one for one in running if not _ended(one, Report(results, began, one.step.name))]
    finally:
        for one in running:
            _kill(one.process)
    return read(results)


def found() -> str:
    """The device that torch finds, asked in a process of its own: this one never touches a device."""
    code = "import torch; print(torch.cuda.is_available())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=FOUND_S)
    return "cuda:0" if asked.stdout.strip() == "True" else "cpu"


def _context(device: str) -> ForkServerContext | SpawnContext:
    """How steps start. Libraries are imported once, by a process that never touches the device, and steps are forked
    from it; where the device does not work so, each imports them itself, which takes longer."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(_PRELOADED)
    trial = forking.Process(target=touch, args=(device,))
    trial.start()
    trial.join(TOUCH_S)
    if trial.exitcode == 0:
        return forking
    _kill(trial)
    return multiprocessing.get_context("spawn")


def may_start(step: Step, running: Sequence[Step], most: int) -> bool:
    """What measures runs alone; what only compares answers may run beside its like."""
    if not running:
        return True
    return step.beside and len(running) < most and all(one.beside for one in running)


def _ended(one: _Running, report: Report) -> bool:
    """Whether a step is over, which is then written where its own process could not."""
    late = one.process.is_alive() and time.monotonic() >= one.ends
    if one.process.is_alive() and not late:
        return False
    _kill(one.process)  # what it started and left, too
    if late:
        report.end(State.OUT_OF_TIME, f"it was ended after {one.step.limit_s:.0f} s or at the end of all time")
    elif not any(line.ended for line in read(report.path) if line.step == one.step.name):
        report.end(State.FAILED, f"its process ended with {one.process.exitcode}")
    return True


def _kill(process: BaseProcess) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()  # before it led a group
    process.join()
