"""What goes on beside the faults, each on a thread: storms of light faults, and questions to all members."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from streamer.bench.chaos import checker
from streamer.bench.chaos.faults import Fault
from streamer.bench.chaos.scene import Scene
from streamer.bench.harness.program import BenchError

LISTEN_S = 2.0
STORM_S = (0.0, 4.0)


class Storm:
    """Light faults, one after another."""

    def __init__(self, scene: Scene, faults: Sequence[Fault], rng: random.Random) -> None:
        self._scene = scene
        self._faults = faults
        self._rng = rng
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="storm", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Let the last one heal. Raises what went wrong."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise BenchError(f"the storm failed: {self._error}") from self._error

    def _run(self) -> None:
        try:
            while self._faults and not self._ended.wait(self._rng.uniform(*STORM_S)):
                fault = self._rng.choice(self._faults)
                fault.strike(self._scene, self._rng, fault.kind)
        except BaseException as error:
            self._error = error


class Listening:
    """Asks all members again and again whether they are well. A context manager."""

    def __init__(self, scene: Scene) -> None:
        self.silence = checker.Silence()
        self._scene = scene
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def __enter__(self) -> Listening:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        scene = self._scene
        while not self._ended.wait(LISTEN_S):
            well = all(member.well() for member in scene.members)
            outcomes, events = scene.watcher.outcomes, scene.writer.events
            self.silence.look(events, outcomes, scene.deleted, time.monotonic(), well=well)
