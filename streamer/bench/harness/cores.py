"""Who uses the cores while something is measured, from what Linux says of its processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_PARENT, _USER, _SYSTEM = 1, 11, 12  # behind the name in /proc/PID/stat
_IDLE, _WAITING, _STOLEN = 3, 4, 7  # behind the name in the first line of /proc/stat
_COUNTED = 8


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of CPU that were used by now: by this process, by a program, by what that has started, by what else this
    process has started, and by all."""

    at_s: float
    own: float
    program: float
    below: float
    beside: float
    machine: float
    stolen: float

    @classmethod
    def of(cls, program: int) -> CpuTimes:
        """Read them; `program` is the id of its process."""
        tick = os.sysconf("SC_CLK_TCK")
        used: dict[int, float] = {}
        parents: dict[int, int] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:  # it has ended
                    continue
                used[int(folder.name)] = (int(fields[_USER]) + int(fields[_SYSTEM])) / tick
                parents[int(folder.name)] = int(fields[_PARENT])
        times = [int(one) / tick for one in Path("/proc/stat").read_text().splitlines()[0].split()[1 : 1 + _COUNTED]]
        busy = sum(times) - times[_IDLE] - times[_WAITING] - times[_STOLEN]
        below = {process for process in used if _is_below(process, program, parents)}
        beside = {process for process in used if _is_below(process, os.getpid(), parents)} - below - {program}

        def sum_of(processes: Iterable[int]) -> float:
            return sum(used.get(process, 0.0) for process in processes)

        return cls(
            at_s=time.monotonic(),
            own=sum_of([os.getpid()]),
            program=sum_of([program]),
            below=sum_of(below),
            beside=sum_of(beside),
            machine=busy,
            stolen=times[_STOLEN],
        )

    def since(self, before: CpuTimes) -> dict[str, float]:
        """How many cores each used since then."""
        spans = {
            "worker": self.below - before.below,
            "driver": self.program - before.program,
            "broker": self.beside - before.beside,
            "bench": self.own - before.own,
        }
        spans |= {
            "others": max(0.0, self.machine - before.machine - sum(spans.values())),
            "stolen": self.stolen - before.stolen,
        }
        return {name: round(seconds / (self.at_s - before.at_s), 2) for name, seconds in spans.items()}


def _is_below(process: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while process := parents.get(process, 0):
        if process == ancestor:
            return True
    return False
