"""What the steps find, as lines of JSON in one file: each is on the disk before the next thing is tried."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from streamer.bench.harness.figures import Figure, Section

_BEGUN = "begun"


class State(Enum):
    """How a step ended."""

    DONE = "done"
    SKIPPED = "skipped"
    WRONG = "wrong"
    """It ran, and what it found is not right."""
    FAILED = "failed"
    OUT_OF_TIME = "out of time"


class SkippedStepError(Exception):
    """What the step needs is not here; `str()` names it."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding of a step, or its end. `at_s` counts from the start of the program."""

    at_s: float
    step: str
    name: str = ""
    value: float | None = None
    unit: str = ""
    text: str = ""
    ended: State | None = None


@dataclass(slots=True)
class Report:
    """Of one step."""

    path: Path
    began: float
    """On the monotonic clock, which all processes share."""
    step: str
    wrongs: list[str] = field(default_factory=list)

    def figure(self, name: str, value: float, unit: str = "") -> None:
        """One number."""
        self._write(name=name, value=float(value), unit=unit)

    def say(self, name: str, text: object) -> None:
        """One fact."""
        self._write(name=name, text=str(text))

    def wrong(self, what: str) -> None:
        """Something is not as it must be; the step goes on, and ends as wrong."""
        self.wrongs.append(what)
        self._write(name="wrong", text=what)

    def begin(self) -> None:
        """The first line of a step."""
        self._write(name=_BEGUN)

    def end(self, state: State, why: str = "") -> None:
        """The last line of a step."""
        self._write(text=why, ended=state)

    def _write(self, **fields: Any) -> None:
        line = Line(at_s=round(time.monotonic() - self.began, 3), step=self.step, **fields)
        number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(number, msgspec.json.encode(line) + b"\n")  # in one call: steps that run side by side do not mix
            os.fsync(number)
        finally:
            os.close(number)


def read(path: Path) -> list[Line]:
    """All whole lines of a file, which may have ended in the middle of one."""
    lines = []
    for raw in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            lines.append(msgspec.json.decode(raw, type=Line))
        except msgspec.DecodeError:
            continue
    return lines


def sections(lines: Sequence[Line]) -> list[Section]:
    """A table for each step that found numbers, and one of how all steps ended."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.step, []).append(line)
    tables, ends = [], []
    for step, own in found.items():
        end = next((line for line in own if line.ended is not None), None)
        state = State.FAILED if end is None or end.ended is None else end.ended
        columns = {"ended": state.value, "why": end.text if end is not None else "it has no end"}
        ends.append(Figure(step, (end or own[-1]).at_s - own[0].at_s, "s", columns=columns))
        figures = [Figure(line.name, line.value, line.unit) for line in own if line.value is not None]
        notes = [f"{line.name}: {line.text}" for line in own if line.text and line.ended is None]
        if figures or notes:
            tables.append(Section(step, figures, notes))
    return [*tables, Section("Steps", ends)]


def bad(lines: Sequence[Line]) -> bool:
    """Whether a step did not end well: skipped is well."""
    well = (State.DONE, State.SKIPPED)
    ends = {line.step: line.ended for line in lines if line.ended is not None}
    return any(state not in well for state in ends.values()) or {line.step for line in lines} != ends.keys()
