"""How many members a pipeline has where measurement decides (`members = 0`): one more while each of them is busy with
its own process, not with waiting for workers, and the machine has cores and memory to spare. Never fewer: each change
moves partitions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streamer.machine.processors import usable_cores, usable_memory_bytes

LOOK_S: Final = 10.0
LOOKS: Final = 3
"""In a row: a start, or a rebalance, is over by then."""
BUSY: Final = 0.9
"""Of a core: whatever Python does in a process is done on one, while its client's threads take some of another."""
ROOM: Final = 0.9
"""Of the memory, which all members and one more may take."""
SPARE: Final = 1.5
"""Cores: what a driver and its client take."""

_UTIME, _STIME, _IDLE, _IOWAIT = 11, 12, 4, 5  # behind the name in /proc/PID/stat; of the first line in /proc/stat


@dataclass(slots=True)
class Growth:
    """Decides for the pipelines that are to grow. Times are seconds of a monotonic clock."""

    most: int
    """Of all processes that this run may have."""
    _at: float | None = None
    _used_s: dict[int, float] = field(default_factory=dict)
    _idle_s: float = 0.0
    _busy: dict[str, int] = field(default_factory=dict)

    def due(self, now: float) -> bool:
        """Whether to look."""
        return self._at is None or now - self._at >= LOOK_S

    def decide(self, now: float, used_s: Mapping[str, Mapping[int, float]], processes: int, idle_s: float) -> str:
        """The pipeline that needs one more member, or "". `used_s` is the CPU time that each of its members' processes
        has used by now, `processes` how many there are in all, and `idle_s` the idle time of all cores."""
        before, idle_before, at = self._used_s, self._idle_s, self._at
        self._used_s = {pid: used for members in used_s.values() for pid, used in members.items()}
        self._idle_s, self._at = idle_s, now
        if at is None or now <= at:
            return ""
        spare = (idle_s - idle_before) / (now - at) >= SPARE and processes < self.most
        chosen = ""
        for pipeline, members in used_s.items():
            busy = members and all(used - before.get(pid, used) >= BUSY * (now - at) for pid, used in members.items())
            self._busy[pipeline] = self._busy.get(pipeline, 0) + 1 if busy and spare else 0
            if self._busy[pipeline] >= LOOKS and not chosen:
                chosen, self._busy[pipeline] = pipeline, 0
        return chosen


def most_processes() -> int:
    """Two cores for each."""
    return max(1, usable_cores() // 2)


def used_s(pids: Iterable[int]) -> dict[int, float]:
    """The CPU time of each process, without those that it started."""
    found, tick_s = {}, 1 / os.sysconf("SC_CLK_TCK")
    for pid in pids:
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[pid] = (int(fields[_UTIME]) + int(fields[_STIME])) * tick_s
    return found


def fits_one_more(pids: Iterable[int]) -> bool:
    """Whether this machine, or its control groups, have the memory for one more member like the largest of these. What
    they share counts for each: it is a guess on the safe side."""
    sizes = [sum(map(_resident_bytes, (pid, *_descendants(pid)))) for pid in pids]
    return sum(sizes) + max(sizes, default=0) <= ROOM * usable_memory_bytes()


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from _descendants(child)


def _resident_bytes(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def idle_s() -> float:
    """The idle time of this machine's cores, all together; 0 where there is no /proc."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=9)
        return (int(fields[_IDLE]) + int(fields[_IOWAIT])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0
