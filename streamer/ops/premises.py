"""What a configuration takes for granted of this machine, looked at without a broker and without torch: models, GPUs,
ports, the cache's key, and what the Kafka client says of its properties."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from streamer.cache.secret import look_at
from streamer.config.certificates import certificate_problems
from streamer.config.environment import strays
from streamer.config.load import Config, Problem
from streamer.config.otel import read
from streamer.config.seats import Seat, seats_of
from streamer.core.addresses import Endpoint, clashes
from streamer.core.surroundings import MachineInfo, ModelInfo
from streamer.errors import Refusal
from streamer.inference.models.adapter import adapter_problem
from streamer.inference.models.inspect import least_worker_bytes
from streamer.inference.models.presence import model_problem
from streamer.machine.limits import inspect
from streamer.ops.doctor import machine, pipelines
from streamer.ops.doctor.finding import Finding, Severity


def problems(config: Config) -> Iterator[Problem]:
    """What would keep `streamer run` from running here: the key path, and what with the fix."""
    certificates = list(certificate_problems(config))
    yield from certificates
    of_files = any(path[0] == "kafka" for path, _ in certificates)  # the client would say the same
    if config.kafka.properties and not of_files and (problem := _refused_property(config)):
        yield problem
    if config.cache.url:
        text, ends, _ = look_at(config.cache.key_file)
        if ends:
            yield ("cache", "key_file"), text.removeprefix("cache.key_file: ")
    yield from read(os.environ, config.telemetry).problems
    info = _machine(config)
    for name, pipeline in config.pipelines.items():
        for finding in machine.judge_model(name, pipeline, ModelInfo(), info):
            yield ("pipelines", name, "device"), f"{finding.what}; {finding.fix}"
        if text := model_problem(pipeline.model, downloads=pipeline.allow_downloads):
            yield ("pipelines", name, "model"), text
        elif text := adapter_problem(
            pipeline.adapter, pipeline.model, pipeline.task, downloads=pipeline.allow_downloads
        ):
            yield ("pipelines", name, "adapter"), text
    for finding in _ports(config, info):
        if finding.severity is Severity.ERROR:
            yield ("telemetry", "http"), f"{finding.what}; {finding.fix}"


def remarks(config: Config, environ: Mapping[str, str]) -> Iterator[Refusal]:
    """What is likely not meant, and stops nothing."""
    for variable, near in strays(environ, config.pipelines):
        if not near:
            yield Refusal(
                f"environment variable {variable}",
                "nothing reads it",
                "`streamer config show --environment` has the names that are read",
            )
    for variable, text in read(environ, config.telemetry).warnings:
        yield Refusal.of(f"environment variable {variable}", text)
    if not config.pipelines:
        yield Refusal("configuration", "it has no pipeline", "`streamer init` writes one, or name a file with --config")
    yield from _clashes(config)
    for finding in (*pipelines.judge(config.pipelines), *_ports(config, _machine(config))):
        if finding.severity is Severity.WARNING:
            yield Refusal(finding.where, finding.what, finding.fix)


def _clashes(config: Config) -> Iterator[Refusal]:
    """Services of one file that can't run at once on one machine; in containers of their own they can."""
    listeners = (
        Endpoint.of("telemetry.http", config.telemetry.http, len(seats_of(config.pipelines))),
        Endpoint.of("health.http", config.health.http),
    )
    for one, other, port in clashes(filter(None, listeners)):
        yield Refusal(
            other.field,
            f"port {port} of {other.addresses} is one of {one.field}, too ({one.addresses}): on one machine only one of"
            " the two can run",
            "write another port for one of them, unless each runs in a container of its own",
        )


def memory_remarks(config: Config, plans: Mapping[str, tuple[int, int]]) -> Iterator[Refusal]:
    """Whether the members of these pipelines, and their workers as far as the models' files tell, fit into this
    machine's memory, or its container's. `plans` are the workers and threads of each member."""
    models, info = {}, inspect(())
    for name in plans:
        pipeline = config.pipelines[name]
        on_gpu = pipeline.device.startswith("cuda") or (pipeline.device == "auto" and info.gpus)
        models[name] = ModelInfo(worker_bytes=0 if on_gpu else least_worker_bytes(pipeline.model))
    for finding in machine.judge(config, plans, models, info, {}):
        if finding.code == "machine.memory" and finding.severity is Severity.ERROR:
            yield Refusal(finding.where, finding.what, finding.fix)


def _machine(config: Config) -> MachineInfo:
    return inspect(_addresses(config).values())


def _ports(config: Config, info: MachineInfo) -> Iterator[Finding]:
    return machine.judge(config, {}, {}, info, _addresses(config))


def _addresses(config: Config) -> dict[Seat, str]:
    return machine.addresses_of(config.telemetry.http, seats_of(config.pipelines))


def _refused_property(config: Config) -> Problem | None:
    from streamer.kafka.inspect import property_problem

    text = property_problem(config.kafka)
    if not text:
        return None
    if text.startswith("kafka.oauth_callback: "):
        return ("kafka", "oauth_callback"), text.removeprefix("kafka.oauth_callback: ")
    named = next((name for name in config.kafka.properties if f'"{name}"' in text), None)
    return ("kafka", "properties", *([named] if named else [])), text.removeprefix("kafka.properties: ")
