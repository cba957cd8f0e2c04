"""Try a model before a start: its files alone, or whole, in a worker as a run starts it."""

from __future__ import annotations

import queue
import time
from pathlib import Path

from streamer.core.facts import ModelFacts
from streamer.core.pipeline.protocol import Input, WorkerLost, WorkerReady
from streamer.errors import ModelError
from streamer.inference.pool import WorkerPool
from streamer.inference.reference import Located, resolve
from streamer.inference.safety import digest, used_files
from streamer.inference.spec import WorkerSpec

_CLOSE_S = 5.0


def look_at_files(spec: WorkerSpec) -> ModelFacts:
    """Whether the model is there and safe to load, and its digest; loads nothing of it."""
    try:
        located = resolve(spec.model)
        if not isinstance(located, Located):
            return ModelFacts(name=spec.model)
        return ModelFacts(name=located.name, revision=digest(located.path, used_files(located.path)))
    except (ModelError, OSError) as error:
        return ModelFacts(failure=str(error))


def try_in_worker(spec: WorkerSpec, timeout_s: float) -> ModelFacts:
    """Load the model in a worker and run its probe; what the worker takes of memory is measured then."""
    posted: queue.SimpleQueue[Input] = queue.SimpleQueue()
    pool = WorkerPool(spec, 1, posted.put)
    began = time.monotonic()
    try:
        pool.start(0)
        fact = posted.get(timeout=timeout_s)
        match fact:
            case WorkerReady():
                card = fact.model
                took_s, memory = time.monotonic() - began, _resident_bytes(pool.pids.get(0))
                return ModelFacts("", card.name, card.revision, card.device, took_s, memory)
            case WorkerLost():
                return ModelFacts(failure=fact.message)
    except queue.Empty:
        return ModelFacts(failure=f"it was not loaded after {timeout_s:g} s")
    finally:
        pool.close(_CLOSE_S)
    raise AssertionError(f"a worker that only starts posted {type(fact).__name__}")


def _resident_bytes(pid: int | None) -> int:
    """What a process has in memory; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
