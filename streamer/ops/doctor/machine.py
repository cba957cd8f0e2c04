"""Rules on this machine: memory, cores, the addresses to listen on, and whether it can serve a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from streamer.config.load import Config, PipelineConfig
from streamer.config.seats import Seat, address_at
from streamer.core.surroundings import MachineInfo, ModelInfo
from streamer.ops.doctor.finding import Finding, error, warning

# A driver without its budgets: Python, the Kafka client, and what it computes with.
DRIVER_BYTES = 120_000_000
_FULL = 0.8


def judge(
    config: Config,
    plans: Mapping[str, tuple[int, int]],
    models: Mapping[str, ModelInfo],
    machine: MachineInfo,
    addresses: Mapping[Seat, str],
) -> Iterator[Finding]:
    """What this machine lacks. `plans` are workers and threads of each member, `addresses` where each listens."""
    yield from _memory(config, plans, models, machine)
    threads = sum(workers * each * config.pipelines[name].first_members for name, (workers, each) in plans.items())
    if threads > machine.cores and any(workers * each > 1 for workers, each in plans.values()):
        yield warning(
            "machine.cores",
            "this machine",
            f"workers and threads add up to {threads} on {machine.cores} cores, and each driver needs one more:"
            " threads that wait for each other at every barrier lose most of their speed",
            "lower `workers` or `threads` (0 divides the cores)",
        )
    for seat, address in addresses.items():
        if address in machine.taken:
            ours = machine.taken[address]
            yield (warning if ours else error)(
                "http.taken",
                seat.words,
                f"can't listen on {address}: " + ("streamer runs there already" if ours else "it is taken or not ours"),
                'set telemetry.http to another port, to port 0 for any, or to "" for none',
            )


def addresses_of(http: str, seats: Iterable[Seat]) -> dict[Seat, str]:
    """Where each process will serve its metrics; nothing where it takes any port."""
    if not int(http.rpartition(":")[2] or 0):
        return {}
    return {seat: address_at(http, place) for place, seat in enumerate(seats)}


def _memory(
    config: Config, plans: Mapping[str, tuple[int, int]], models: Mapping[str, ModelInfo], machine: MachineInfo
) -> Iterator[Finding]:
    members = {name: config.pipelines[name].first_members for name in plans}
    drivers = sum(
        DRIVER_BYTES * members[name] + (config.pipelines[name].budget_mb + config.cache.memory_mb) * 1_000_000
        for name in plans
    )
    workers = sum(
        members[name] * plans[name][0] * model.worker_bytes for name, model in models.items() if name in plans
    )
    wanted, there = drivers + workers, machine.memory_bytes
    if wanted <= there * _FULL:
        return
    over = wanted > there
    yield (error if over else warning)(
        "machine.memory",
        "this machine",
        f"drivers take up to {drivers / 1e9:.1f} GB (budget_mb, memory_mb)"
        + (f" and workers {workers / 1e9:.1f} GB" if workers else "")
        + f"; there are {there / 1e9:.1f} GB"
        + (": the kernel will kill one of them" if over else ", which leaves little"),
        "lower budget_mb, cache.memory_mb, workers or members, or raise the container's memory limit",
    )


_FIX = "correct `model`, `task` and `options` of the pipeline; `streamer infer` tries them without Kafka"


def judge_model(name: str, pipeline: PipelineConfig, model: ModelInfo, machine: MachineInfo) -> Iterator[Finding]:
    """Whether the model can be served here."""
    where = f"pipeline {name}"
    if pipeline.device.startswith("cuda") and machine.gpus is not None:
        number = int(pipeline.device.partition(":")[2] or 0)
        if number >= machine.gpus:
            has = f"there are {machine.gpus}" if machine.gpus else "there is none"
            yield error(
                "device.absent",
                where,
                f"device is {pipeline.device}, but of NVIDIA GPUs {has} here",
                'set device = "auto", or give this machine or container the GPU (docker run --gpus all)',
            )
            return
    if model.failure:
        yield error("model.refused", where, model.failure, _FIX)
