"""The first step of a start: the slot, and the workers in it.

A model's load is the longest step of a start, and a worker needs nothing but its orders. So this imports no more than
it takes to start one; all that `assemble` knows is imported while they load.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue

from streamer.config.load import Config, PipelineConfig
from streamer.core.pipeline.protocol import Input
from streamer.errors import UsageError
from streamer.inference.models.presence import refuse_early
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import WorkerSpec, plan_threads
from streamer.kafka.slots import Slot, take_slot
from streamer.machine.processors import usable_cores, usable_gpus


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `streamer run` was asked beside the configuration. `pipelines` run beside one another on this machine, this
    one as number `index` (from 0)."""

    until_end: bool = False
    accept_dead_letters: int = 0
    pipelines: int = 1
    index: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The slot that this process took, and its workers under way; what becomes of them is posted to `inbox`."""

    slot: Slot
    pool: WorkerPool
    inbox: SimpleQueue[Input]

    def close(self) -> None:
        """Undo it."""
        self.pool.close(0.0)
        self.slot.release()


def start_workers(config: Config, name: str, options: RunOptions) -> Started:
    """Take the pipeline's slot and start its workers. Raises StreamerError: no such pipeline, slot taken."""
    pipeline = pipeline_of(config, name)
    inbox: SimpleQueue[Input] = SimpleQueue()
    count, spec = worker_plan(pipeline, name, options.pipelines)
    refuse_early(spec.model)
    slot = take_slot(pipeline.group, pipeline.slot)
    with ExitStack() as undo:
        undo.callback(slot.release)
        pool = WorkerPool(spec, count, inbox.put)
        undo.callback(pool.close, 0.0)
        pool.start_early()
        undo.pop_all()
    return Started(slot, pool, inbox)


def pipeline_of(config: Config, name: str) -> PipelineConfig:
    """The named pipeline. Raises UsageError naming those that there are."""
    if name not in config.pipelines:
        known = ", ".join(config.pipelines) or "none"
        raise UsageError(f"there is no pipeline {name}; the configuration has: {known}")
    return config.pipelines[name]


def worker_plan(pipeline: PipelineConfig, name: str, pipelines: int = 1) -> tuple[int, WorkerSpec]:
    """How many workers, and what each is told."""
    gpus = usable_gpus(pipeline.device, os.environ)
    workers, threads = plan_threads(pipeline.workers, pipeline.threads, usable_cores(), pipelines, gpus)
    spec = WorkerSpec(
        pipeline=name,
        task=pipeline.task,
        model=pipeline.model,
        dtype=pipeline.dtype,
        backend=pipeline.backend,
        compile=pipeline.compile,
        device=pipeline.device,
        threads=threads,
        on_overflow=pipeline.on_overflow,
        options=pipeline.options,
        batch_tokens=pipeline.batch_tokens,
    )
    return workers, spec
