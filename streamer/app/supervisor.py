"""`streamer run` of several pipelines or members: a child process for each, looked after by this one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from streamer.app.growth import Growth, fits_one_more, idle_s, used_s
from streamer.config.seats import Seat
from streamer.errors import ExitCode
from streamer.machine.kernel import end_with_parent
from streamer.stopping import Stopping

if TYPE_CHECKING:
    from streamer.app.live import Relay

RESTART_PAUSE_S: Final = 1.0
RESTART_PAUSE_MAX_S: Final = 30.0
STEADY_S: Final = 60.0
SAY_EVERY_S: Final = 60.0
KILL_SLACK_S: Final = 10.0
RELAY_CLOSE_S: Final = 1.0
MOST_FAILURES_UNTIL_END: Final = 5
"""In a row, before a child of `--until-end` is given up: whoever waits for the end wants to hear of it."""

FINAL: Final = frozenset({ExitCode.DONE, ExitCode.USAGE, ExitCode.CONFIGURATION, ExitCode.HALTED, ExitCode.FENCED})
"""Ends that a restart does not fix."""

_WHY: Final = {
    ExitCode.DONE: "it was asked to stop",
    ExitCode.USAGE: "its command line was refused",
    ExitCode.CONFIGURATION: "its configuration, its model or its rights are wrong",
    ExitCode.HALTED: "it halted, because the model failed or there were too many failures",
    ExitCode.FENCED: "another process has its slot",
}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Child:
    seat: Seat
    place: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    told: bool = False
    """Whether it was asked to stop."""
    killed: bool = False
    exit_code: int | None = None
    say_at: float = float("inf")


@dataclass(slots=True)
class Supervisor:
    """Runs each pipeline, or member of one, in a child process, restarts what crashed, and stops all together.

    A child that ends for good (done, halted, fenced, wrong configuration) leaves the others running, which is said
    again every minute; `on_down` is told its place and the sentence. The exit code is the highest of all.
    With a `relay`, what children say goes through it to the terminal. The pipelines in `grows` get more members as
    `growth` decides.
    """

    seats: Sequence[Seat]
    arguments: Sequence[str]
    within_s: float
    stopping: Stopping
    until_end: bool = False
    on_down: Callable[[Seat, int, str], None] = lambda *_: None
    relay: Relay | None = None
    grows: frozenset[str] = frozenset()
    growth: Growth | None = None
    _children: list[_Child] = field(default_factory=list)
    _kill_at: float = float("inf")

    def run(self) -> int:
        """Run until all children have ended."""
        self._children = [_Child(seat, place) for place, seat in enumerate(self.seats)]
        names, what = [str(seat) for seat in self.seats], _noun(self.seats)
        words = f"running {len(names)} {what} in a process each: {', '.join(names)}"
        log.info("running pipelines", extra={"data": {"pipelines": names}, "words": words})
        # Signals are only counted where they interrupt: a child that is being started could not be sent one.
        self.stopping.act(lambda *_: None)
        while any(child.exit_code is None for child in self._children):
            now = time.monotonic()
            if self.stopping.signals and self._kill_at == float("inf"):
                self._kill_at = now + self.within_s + KILL_SLACK_S
                words = f"stopping all {_noun(self.seats)}, within {self.within_s:g} s"
                log.info("stopping", extra={"data": {"within_s": self.within_s}, "words": words})
            for child in self._children:
                self._look_after(child, now)
            if self.growth is not None and self.growth.due(now) and not self.stopping.signals:
                self._grow(self.growth, now)
            time.sleep(0.05)
        if self.relay is not None:
            self.relay.close(RELAY_CLOSE_S)
        if self.stopping.signals > 1:
            return ExitCode.SECOND_SIGNAL
        code = max(child.exit_code or 0 for child in self._children)
        ends = ", ".join(f"{child.seat} {child.exit_code}" for child in self._children)
        words = f"all {_noun(self.seats)} have ended, with exit codes: {ends}"
        log.info("all pipelines have ended", extra={"data": {"exit_code": int(code)}, "words": words})
        return code

    def _grow(self, growth: Growth, now: float) -> None:
        running = [(child.seat.pipeline, child.process.pid) for child in self._children if child.process is not None]
        used = {name: used_s(pid for each, pid in running if each == name) for name in self.grows}
        if name := growth.decide(now, used, len(self._children), idle_s()):
            if not fits_one_more(pid for _, pid in running):
                words = f"pipeline {name} gets no further member, though those that run are busy: memory is short"
                log.warning("no further member", extra={"data": {"pipeline": name}, "words": words})
                return
            seat = Seat(name, sum(child.seat.pipeline == name for child in self._children) + 1)
            self._children.append(_Child(seat, len(self._children)))
            words = f"pipeline {name} gets member {seat.member}: those that run are busy, and cores are idle"
            log.info("one more member", extra={"data": seat.fields, "words": words})

    def _look_after(self, child: _Child, now: float) -> None:
        if child.exit_code is not None:
            if now >= child.say_at and not self.stopping.signals:
                self._say_down(child, now)
            return
        if child.process is None:
            if self.stopping.signals:
                child.exit_code = ExitCode.DONE
            elif now >= child.restart_at:
                self._start(child, now)
            return
        code = child.process.poll()
        if code is not None:
            child.process = None
            self._ended(child, code, now)
        elif self.stopping.signals and not child.told:
            child.told = True
            child.process.send_signal(signal.SIGTERM)
        elif (self.stopping.signals > 1 or now > self._kill_at) and not child.killed:
            child.killed = True
            child.process.kill()

    def _ended(self, child: _Child, code: int, now: float) -> None:
        status = code if code >= 0 else 128 - code  # as a shell has it
        data: dict[str, object] = {**child.seat.fields, "exit_code": status}
        if code < 0:
            data["signal"] = _name_of(-code)
        if self.stopping.signals:
            child.exit_code = self._stopped(child, status, data)
            return
        child.failures = 1 if now - child.started > STEADY_S else child.failures + 1
        if code in FINAL or (self.until_end and child.failures >= MOST_FAILURES_UNTIL_END):
            child.exit_code = status
            if code != ExitCode.DONE or not self.until_end:
                self._say_down(child, now)
                self.on_down(child.seat, child.place, self._down(child))
            return
        pause_s = _pause(child, now)
        how = f"of {data['signal']}" if code < 0 else f"with exit code {status}"
        log.error(
            f"the process of {child.seat.words} ended {how} and is started again",
            extra={"data": {**data, "pause_s": pause_s}},
        )

    def _stopped(self, child: _Child, status: int, data: dict[str, object]) -> int:
        """The exit code of a child that was asked to stop."""
        if self.stopping.signals > 1:
            return ExitCode.SECOND_SIGNAL
        if child.killed:
            log.error("a pipeline did not stop in time and was killed", extra={"data": data})
            return ExitCode.DRAIN_DEADLINE
        if status == 128 + signal.SIGTERM:  # it came before the child had touched anything
            return ExitCode.DONE
        if status > 128:
            log.error("a pipeline's process died while it stopped", extra={"data": data})
        return status

    def _say_down(self, child: _Child, now: float) -> None:
        child.say_at = now + SAY_EVERY_S
        others = any(other.exit_code is None for other in self._children)
        how = "; the others go on" if others else ""
        log.error("%s%s", self._down(child), how, extra={"data": {**child.seat.fields, "exit_code": child.exit_code}})

    def _down(self, child: _Child) -> str:
        code = child.exit_code or 0
        why = _WHY.get(ExitCode(code), "") if code in set(ExitCode) else ""
        why = why or f"it ended {child.failures} times in a row"
        return (
            f"{child.seat.words} is down for good with exit code {code}: {why}. Its own last lines say more; "
            "correct that, then start `streamer run` again"
        )

    def _start(self, child: _Child, now: float) -> None:
        pipeline, member = child.seat
        command = [
            *(sys.executable, "-m", "streamer", "run", *self.arguments, "--pipeline", pipeline),
            *("--siblings", str(len(self._children)), "--index", str(child.place), "--supervisor", str(os.getpid())),
        ]
        if member:
            command += ["--member", str(member)]
        if member == 1:
            others = [other.place for other in self._children if other.seat.pipeline == pipeline and other is not child]
            command += [f"--other={place}" for place in others]
        # A group of its own: a terminal's Ctrl-C reaches us alone, and the child once, through us.
        child.started, child.told = now, False
        try:
            if self.relay is None:
                child.process = subprocess.Popen(command, process_group=0)
            else:
                child.process = self._start_relayed(command, str(child.seat), self.relay)
        except OSError as error:
            child.failures += 1
            what = f"the process of {child.seat.words} can't be started; trying again: {error.strerror}"
            log.error(
                "%s; raise the limits of processes and open files, or free memory",
                what,
                extra={"data": {**child.seat.fields, "pause_s": _pause(child, now)}},
            )

    @staticmethod
    def _start_relayed(command: list[str], name: str, relay: Relay) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen([*command, "--relayed"], process_group=0, stderr=writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        relay.read(name, reading)
        return process


def _pause(child: _Child, now: float) -> float:
    """Seconds until it is started again, longer each time that it fails in a row."""
    pause_s: float = min(RESTART_PAUSE_S * 2.0 ** min(child.failures - 1, 10), RESTART_PAUSE_MAX_S)
    child.restart_at = now + pause_s
    return pause_s


def end_with(supervisor: int) -> None:
    """In a child: get SIGTERM when the supervisor's process ends, however it ends (Linux)."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != supervisor:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)


def _noun(seats: Sequence[Seat]) -> str:
    return "members" if any(seat.member for seat in seats) else "pipelines"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
