"""A pipeline of the configuration, and the workers that it asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from streamer.config.load import Config, PipelineConfig
from streamer.config.seats import seats_of
from streamer.errors import UsageError
from streamer.inference.spec import SERVED, ServedSpec, WorkerSpec, plan_threads
from streamer.machine.processors import usable_cores, usable_gpus


def pipeline_of(config: Config, name: str) -> PipelineConfig:
    """The named pipeline. Raises UsageError naming those that there are."""
    if name not in config.pipelines:
        known = ", ".join(config.pipelines) or "none"
        raise UsageError(f"there is no pipeline {name}; the configuration has: {known}")
    return config.pipelines[name]


def worker_plan(pipeline: PipelineConfig, name: str, pipelines: int = 1) -> tuple[int, WorkerSpec]:
    """How many workers, and what each is told."""
    if pipeline.backend in SERVED:
        return max(1, pipeline.workers), _served(pipeline, name)
    gpus = usable_gpus(pipeline.device, os.environ)
    workers, threads = plan_threads(pipeline.workers, pipeline.threads, usable_cores(), pipelines, gpus)
    spec = WorkerSpec(
        pipeline=name,
        task=pipeline.task,
        model=pipeline.model,
        adapter=pipeline.adapter,
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


def plans_of(config: Config, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The workers of each member of these pipelines, which run together, and the threads of each worker."""
    together = len(seats_of(config.pipelines, names))
    plans = {name: worker_plan(config.pipelines[name], name, together) for name in names}
    return {name: (workers, spec.threads) for name, (workers, spec) in plans.items()}


def _served(pipeline: PipelineConfig, name: str) -> WorkerSpec:
    """Of a model that a server runs."""
    return WorkerSpec(
        pipeline=name,
        task=pipeline.task,
        model=pipeline.model,
        backend=pipeline.backend,
        on_overflow=pipeline.on_overflow,
        options=pipeline.options,
        served=ServedSpec(
            model=pipeline.served_model,
            revision=pipeline.served_revision,
            key_env=pipeline.served_key_env,
            ca=pipeline.served_ca,
            requests=pipeline.served_requests,
            batch=pipeline.served_batch,
            timeout_s=pipeline.served_timeout_s,
            deadline_s=pipeline.served_deadline_s,
            pinned=pipeline.served_fingerprint == "pinned",
        ),
    )
