"""The driver's own threads on one core while there is much to do.

Python runs one of them at a time, so that a second core gains them nothing: its lock goes from core to core, and each
fetches again what the others have touched. On one core `builtin:null` moved 6 to 22 % more records (five pairs of runs,
two cores, CPython 3.11). What needs no such lock keeps all cores: the Kafka client's threads and the workers, which are
made `everywhere`, since a thread or process inherits the cores of the one that makes it.

Only `streamer run` does this, in its own process, where the setting `driver_affinity` lets it. In a process that is
somebody else's (a notebook, a test, a program that imports streamer) nothing here changes anything.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CHECK_S = 0.25
BUSY = 0.6  # of a core, the client's threads included
IDLE = 0.3
CONTENDED = 4
"""In so many checks in a row the threads waited longer than they ran, all together: something else is busy on their
core, which is worse than going from core to core. Alone there they wait half as long as they run, for one another."""
APART_S = 60.0

MEASURED_CORES = 2
"""Where it was measured to pay. Nobody has measured what it does on more, and on one there is no choice."""

_LAST_CORE = 36  # of what follows the name in /proc/PID/stat
_all_cores: frozenset[int] = frozenset()  # that we may use; empty while nothing of ours keeps to fewer


def pays() -> bool:
    """Whether a `OneCore` is worth having on this machine, as far as this process may use it."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == MEASURED_CORES


@contextmanager
def everywhere() -> Iterator[None]:
    """Let what the calling thread makes in here, threads and processes, run on all cores that we may use, where a
    `OneCore` has kept us from some."""
    if not _all_cores:
        yield
        return
    mine = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, _all_cores)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, mine)


@dataclass(slots=True)
class Gathering:
    """Decides when to be on one core; `together` is the last decision."""

    together: bool = False
    _at: float | None = None
    _used_s: float = 0.0
    _waited_s: float = 0.0
    _apart_until: float = float("-inf")
    _contended: int = 0

    def decide(self, now: float, used_s: float, waited_s: float) -> bool:
        """Whether to be together from now on. `used_s` is the CPU time that this process has used by now, `waited_s`
        how long its threads have waited for a core."""
        at, used, waited = self._at, used_s - self._used_s, waited_s - self._waited_s
        self._at, self._used_s, self._waited_s = now, used_s, waited_s
        if at is None or now <= at:
            return self.together
        elapsed = now - at
        self._contended = self._contended + 1 if self.together and waited > used else 0
        if self._contended >= CONTENDED:
            self.together, self._apart_until = False, now + APART_S
        elif used < IDLE * elapsed:
            self.together = False
        elif used > BUSY * elapsed and now >= self._apart_until:
            self.together = True
        return self.together


class OneCore:
    """Keeps this process's Python threads together, or lets them go, as a `Gathering` decides; looks every
    `CHECK_S`, on a thread of its own. A process may have one. Of several processes each takes the core at its `place`
    among those of all, if it has one: they would else meet on the same."""

    def __init__(self, place: int | None = None) -> None:
        self._place = place
        self._gathering = Gathering()
        self._core: int | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cores", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more, and let the threads go."""
        global _all_cores
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._core is not None:
            _place(_threads(), _all_cores)
            _all_cores = frozenset()

    def _run(self) -> None:
        while not self._closing.wait(CHECK_S):
            self.check(time.monotonic())

    def check(self, now: float) -> None:
        """Decide and act."""
        global _all_cores
        threads = _threads()
        before = self._gathering.together
        together = self._gathering.decide(now, time.process_time(), sum(map(_waited_s, threads)))
        if together and not before:
            _all_cores = _all_cores or frozenset(os.sched_getaffinity(0))
            self._core = self._choice(sorted(_all_cores))
        if self._core is not None:  # else never together yet: whoever placed these threads may have had a reason
            # Looked up each time: threads come and go, and one may have been `everywhere` meanwhile.
            _place(threads, {self._core} if together else _all_cores)

    def _choice(self, cores: Sequence[int]) -> int | None:
        if self._place is not None:
            return cores[self._place % len(cores)]
        return _core_of(threading.main_thread().native_id or 0)


@contextmanager
def on_one_core(setting: str, place: int | None = None) -> Iterator[None]:
    """Keep this process's threads together meanwhile, whenever that pays, as the setting `driver_affinity` lets it.
    `place` is this process's among several."""
    if setting != "auto" or not pays():
        yield
        return
    one_core = OneCore(place)
    one_core.start()
    try:
        yield
    finally:
        one_core.close()


def _threads() -> list[int]:
    """Python's threads in this process, by the kernel's numbers."""
    return [thread.native_id for thread in threading.enumerate() if thread.native_id is not None]


def _place(threads: Iterable[int], cores: Set[int]) -> None:
    for thread in threads:
        with suppress(OSError):  # it has just ended, or the cores that we may use have changed
            os.sched_setaffinity(thread, cores)


def _waited_s(thread: int) -> float:
    """How long a thread could have run and did not; 0 where the kernel keeps no account."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _core_of(thread: int) -> int | None:
    """The core that a thread ran on last."""
    try:
        return int(Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[_LAST_CORE])
    except (OSError, IndexError):
        return None
