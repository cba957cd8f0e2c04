"""The workers of one driver: started, fed, killed and closed by number."""

from __future__ import annotations

import queue
import threading
import time

from streamer.core.pipeline.protocol import Input, Work, WorkerReady
from streamer.inference.channel import Compute
from streamer.inference.parent.launch import make_launcher
from streamer.inference.parent.process import WorkerProcess
from streamer.inference.spec import WorkerSpec
from streamer.ports import Post

# How long a killed process may take to be gone.
_KILL_WAIT_S = 5.0


class WorkerPool:
    """`streamer.ports.Workers` over processes: `count` of them, numbered from 0, each with the whole model."""

    def __init__(self, spec: WorkerSpec, count: int, post: Post) -> None:
        self._spec = spec
        self._launcher = make_launcher(spec)
        self.count = count
        self._post = post
        self._served = False
        self._workers: dict[int, WorkerProcess] = {}
        self._early: set[int] = set()  # spawned before they were asked for
        self._starting: queue.SimpleQueue[WorkerProcess | None] = queue.SimpleQueue()
        # One thread spawns all and lives until `close`: a worker gets its PDEATHSIG when the thread that spawned
        # it ends.
        self._spawner = threading.Thread(target=self._spawn, name="worker-spawner", daemon=True)
        self._spawner.start()

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the workers that live now, by number."""
        return {number: pid for number, process in list(self._workers.items()) if (pid := process.pid) is not None}

    def start_early(self) -> None:
        """Spawn all now; the first `start` of each finds it there. A model's load is the longest step of a start, and
        nothing else needs to be there for it."""
        for worker in range(self.count):
            self.start(worker)
        self._early = set(range(self.count))

    def start(self, worker: int) -> None:
        """Spawn; posts `WorkerReady`, or `WorkerLost` when it could not be started."""
        if worker in self._early:
            self._early.discard(worker)
            return
        process = WorkerProcess(worker, self._spec, self._launcher, self._take, lambda: self._served)
        self._workers[worker] = process
        self._starting.put(process)

    def send(self, worker: int, work: Work) -> None:
        """Queue work; never blocks. Posts `ForwardStarted` and `ForwardDone` for it, or `WorkerLost`."""
        self._workers[worker].send(
            Compute(work.numbers, work.texts, work.pairs, work.params, work.alone, work.answer_bytes, work.traces)
        )

    def kill(self, worker: int) -> None:
        """SIGKILL; posts `WorkerLost(hung=True)`."""
        self._workers[worker].kill()

    def close(self, timeout_s: float) -> None:
        """Ask all to exit, kill what is left after `timeout_s`; nothing is posted of their ends."""
        deadline = time.monotonic() + timeout_s
        processes = list(self._workers.values())
        for process in processes:
            process.ask_to_exit()
        self._starting.put(None)
        for process in processes:
            process.wait(deadline - time.monotonic())
        for process in processes:
            process.kill()
        self._launcher.close()
        for process in processes:
            process.wait(_KILL_WAIT_S)
        self._spawner.join(_KILL_WAIT_S)

    def _take(self, fact: Input) -> None:
        self._served = self._served or isinstance(fact, WorkerReady)
        self._post(fact)

    def _spawn(self) -> None:
        alive: list[WorkerProcess] = []
        while (process := self._starting.get()) is not None:
            process.spawn()
            alive = [one for one in [*alive, process] if one.pid is not None]
        for process in alive:
            while not process.wait(_KILL_WAIT_S):
                pass
