"""Rules on this machine: memory, cores, the addresses to listen on, and whether it can serve a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamer.config.load import Config, PipelineConfig
from streamer.core.facts import MachineFacts, ModelFacts
from streamer.ops.doctor.finding import Finding, error, warning

# A driver without its budgets: Python, the Kafka client, and what it computes with.
DRIVER_BYTES = 120_000_000
_FULL = 0.8


def judge(
    config: Config,
    plans: Mapping[str, tuple[int, int]],
    models: Mapping[str, ModelFacts],
    machine: MachineFacts,
    addresses: Mapping[str, str],
) -> Iterator[Finding]:
    """What this machine lacks. `plans` are workers and threads of each, `addresses` where each pipeline listens."""
    yield from _memory(config, plans, models, machine)
    threads = sum(workers * each for workers, each in plans.values())
    if threads > machine.cores and any(workers * each > 1 for workers, each in plans.values()):
        yield warning(
            "machine.cores",
            "this machine",
            f"workers and threads come to {threads} on {machine.cores} cores, and each driver wants one beside them:"
            " threads that wait for one another at every barrier lose most of their speed",
            "lower `workers` or `threads` (0 divides the cores)",
        )
    for name, address in addresses.items():
        if address in machine.taken:
            ours = machine.taken[address]
            yield (warning if ours else error)(
                "http.taken",
                f"pipeline {name}",
                f"can't listen on {address}: " + ("streamer runs there already" if ours else "it is taken or not ours"),
                'set telemetry.http to another port, to port 0 for any, or to "" for none',
            )


def addresses_of(http: str, names: list[str]) -> dict[str, str]:
    """Where each pipeline will serve its metrics: one port after the other."""
    host, _, port = http.rpartition(":")
    return {name: f"{host}:{int(port) + number}" for number, name in enumerate(names)} if port not in ("", "0") else {}


def _memory(
    config: Config, plans: Mapping[str, tuple[int, int]], models: Mapping[str, ModelFacts], machine: MachineFacts
) -> Iterator[Finding]:
    drivers = sum(
        DRIVER_BYTES + (config.pipelines[name].budget_mb + config.cache.memory_mb) * 1_000_000 for name in plans
    )
    workers = sum(plans[name][0] * model.worker_bytes for name, model in models.items() if name in plans)
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
        "lower budget_mb, cache.memory_mb or workers, or raise the container's memory limit",
    )


_MEND = "correct `model`, `task` and `options` of the pipeline; `streamer infer` tries them without Kafka"


def judge_model(name: str, pipeline: PipelineConfig, model: ModelFacts, machine: MachineFacts) -> Iterator[Finding]:
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
        yield error("model.refused", where, model.failure, _MEND)
