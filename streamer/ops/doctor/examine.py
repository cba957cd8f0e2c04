"""The examination: look around in the order of what depends on what, and judge them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import msgspec

from streamer.cache.inspect import inspect as inspect_cache
from streamer.config.fields import KafkaConfig
from streamer.config.load import Config, PipelineConfig
from streamer.config.otel import read
from streamer.config.seats import seats_of
from streamer.config.url import redacted_url
from streamer.core.deadletters.audit import AUDIT_TOPIC
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.core.members import client_of
from streamer.core.surroundings import BrokerInfo, CacheInfo, GroupInfo, ModelInfo
from streamer.errors import ConfigurationError, DependencyError, StreamerError
from streamer.inference.served.client import is_by_proxy
from streamer.kafka.announced import places_of
from streamer.kafka.inspect import ClusterInspector, client_times, held_slot, property_problem
from streamer.machine.limits import inspect as inspect_machine
from streamer.machine.peer import look_at_peer
from streamer.ops.doctor import cache, cluster, extras, group, machine, pipelines, records
from streamer.ops.doctor.finding import Finding, error, warning
from streamer.ops.doctor.peers import Expected, explain
from streamer.telemetry.otlp_http import problem_of

Plan = Callable[[str], tuple[int, int]]
"""The workers of a pipeline, and the threads of each."""
LookAtModel = Callable[[str], ModelInfo]
"""What is known of a pipeline's model."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: `about` says what was seen, whether or not anything is wrong with it."""

    noun: str
    about: str
    findings: list[Finding] = field(default_factory=list)


def examine(
    config: Config, names: list[str], plan: Plan, model: LookAtModel, now_ms: int, *, runs_here: bool
) -> Iterator[Check]:
    """Look at everything that these pipelines need, cheap things first. `runs_here` is whether models are to be loaded
    in this installation."""
    chosen = {name: config.pipelines[name] for name in names}
    yield Check("pipelines", ", ".join(names), list(pipelines.judge(config.pipelines)))
    yield Check("extras", extras.about(), list(extras.judge(chosen, runs_here=runs_here)))
    yield from _kafka(config, names, now_ms)
    yield from _registry(config, chosen)
    if config.cache.url:
        try:
            found = inspect_cache(config.cache)
        except ConfigurationError as failure:
            yield Check("Redis", "cache.url", [_told("cache.url", "cache.url", str(failure))])
        else:
            yield Check("Redis", _about_cache(found), list(cache.judge(found)))
    yield from _outlet(config)
    addresses = machine.addresses_of(config.telemetry.http, seats_of(chosen))
    info = inspect_machine(addresses.values())
    models = {}
    for name, pipeline in chosen.items():
        absent = list(machine.judge_model(name, pipeline, ModelInfo(), info))
        found_model = ModelInfo() if absent else _of_its_server(name, pipeline, model(name))
        models[name] = found_model
        findings = absent or list(machine.judge_model(name, pipeline, found_model, info))
        yield Check("model", f"{name}: {_about_model(pipeline.model, found_model)}", findings)
    plans = {name: plan(name) for name in names}
    about = f"{info.cores} cores, {info.memory_bytes / 1e9:.1f} GB, {info.gpus or 'no'} GPU"
    yield Check("machine", about, list(machine.judge(config, plans, models, info, addresses)))


def _outlet(config: Config) -> Iterator[Check]:
    """Where spans go over HTTP, if they do. A receiver that does not answer keeps no pipeline from running."""
    otel, problems, _ = read(os.environ, config.telemetry)
    found = [
        _told("configuration.refused", f"environment variable {variable}", text) for (variable, *_), text in problems
    ]
    if not otel.endpoint and not found:
        return
    address = redacted_url(otel.endpoint)
    if not found and (problem := problem_of(otel)):
        fix = "start the receiver, or correct OTEL_EXPORTER_OTLP_ENDPOINT, its headers or certificates"
        ca = "OTEL_EXPORTER_OTLP_CERTIFICATE", otel.certificate
        what, fix = _http_peer([otel.endpoint], "OTEL_EXPORTER_OTLP_ENDPOINT", ca) or (
            f"it takes none ({problem})",
            fix,
        )
        found.append(warning("otlp.refused", address, f"spans are dropped: {what}", fix))
    yield Check("OTLP", address or "OTEL_*", found)


def refused(failure: ConfigurationError) -> list[Finding]:
    """What is wrong with a configuration that could not be loaded, one finding a problem."""
    problems = [str(refusal) for refusal in failure.refusals] or [str(failure)]
    return [_told("configuration.refused", "configuration", problem) for problem in problems]


def _kafka(config: Config, names: list[str], now_ms: int) -> Iterator[Check]:
    address = config.kafka.bootstrap_servers
    if problem := property_problem(config.kafka):
        yield Check("Kafka", address, [_told("property.refused", "kafka.properties", problem)])
        return
    try:
        kafka = ClusterInspector(config)
        found = kafka.broker()
    except StreamerError as failure:
        yield Check("Kafka", address, [_unreached(config.kafka, failure)])
        return
    chosen = {name: config.pipelines[name] for name in names}
    yield Check("Kafka", _about_broker(found), list(cluster.judge_brokers(found, chosen)))
    if found.silent:
        return  # whatever those brokers hold would be waited for
    try:
        yield from _topics_and_groups(config, names, now_ms, kafka, found)
    except StreamerError as failure:
        yield Check("Kafka", address, [_failed(f"Kafka at {address}", failure)])


def _topics_and_groups(
    config: Config, names: list[str], now_ms: int, kafka: ClusterInspector, brokers: BrokerInfo
) -> Iterator[Check]:
    problems = kafka.problems(names)
    findings = []
    for each in problems:
        optional = each.topic in (STATE_TOPIC, AUDIT_TOPIC) and each.code != "topic.cleanup"
        make = warning if optional or each.warning else error
        findings.append(make(each.code, each.topic, each.problem, each.fix))
    wanted = [topic for name in names for topic in _topics_of(config, name)]
    known = kafka.topics(wanted)
    told = {(each.code, each.topic) for each in problems}
    for finding in cluster.judge_topics(config, names, known, brokers):
        if finding.code == "topic.compacted" and ("topic.cleanup", finding.where) in told:
            continue
        findings.append(finding)
    yield Check("topics", f"{len(known)} of {len(set(wanted))} exist", findings)
    running = kafka.running()
    for name in names:
        pipeline = config.pipelines[name]
        inputs = [topic for topic in pipeline.input if topic in known]
        findings = list(pipelines.judge_times(name, pipeline, client_times(config.kafka, pipeline), brokers))
        if slot := held_slot(pipeline):
            findings.append(
                error(
                    "group.slot",
                    f"pipeline {name}",
                    f"slot {slot} is held by another process on this host",
                    "stop that one first, or give this replica another slot",
                )
            )
        found = kafka.group(pipeline, inputs)
        client = str(config.kafka.properties.get("client.id", client_of(pipeline.output)))
        findings += group.judge(found, pipeline, client, brokers)
        findings += records.judge(found, pipeline, known, now_ms, brokers.address)
        findings += records.judge_clock(found, now_ms)
        findings += pipelines.judge_running(name, pipeline, running)
        findings += pipelines.judge_members(name, pipeline, sum(known[topic].partitions for topic in inputs))
        yield Check("group", f"{name}: {_about_group(found)}", findings)


def _topics_of(config: Config, name: str) -> list[str]:
    pipeline, telemetry = config.pipelines[name], config.telemetry
    own = [*pipeline.input, pipeline.output, pipeline.dead_letter]
    return [*own, *(topic for topic in (telemetry.reports, telemetry.spans) if topic)]


def _unreached(kafka: KafkaConfig, failure: StreamerError) -> Finding:
    """What the client says, or who answers in place of a broker that would let us in."""
    found = _failed(f"Kafka at {kafka.bootstrap_servers}", failure)
    protocol = str(kafka.properties.get("security.protocol", "plaintext")).lower()
    expected = cluster.expected(tls=protocol.endswith("ssl"), login=protocol.startswith("sasl"))
    explained = explain([look_at_peer(*place, first="Kafka") for place in places_of(kafka.bootstrap_servers)], expected)
    return replace(found, what=explained[0], fix=explained[1]) if explained else found


def _failed(where: str, failure: StreamerError) -> Finding:
    code = "broker.unreachable" if isinstance(failure, DependencyError) else "broker.refused"
    return _told(code, where, str(failure))


def _told(code: str, where: str, message: str) -> Finding:
    """A message of ours ends in its fix, after the last semicolon."""
    what, _, fix = message.rpartition("; ")
    return error(code, where, (what or fix).removeprefix(f"{where}: ").removeprefix(f"{where} "), fix)


def _about_broker(found: BrokerInfo) -> str:
    brokers = "1 broker" if found.brokers == 1 else f"{found.brokers} brokers"
    release = (
        "" if not found.release or found.release == (0, 0) else f", {found.release[0]}.{found.release[1]} or later"
    )
    return f"{found.address}: {brokers}{release}"


def _about_group(found: GroupInfo) -> str:
    members = {0: "no member", 1: "1 member"}.get(len(found.members), f"{len(found.members)} members")
    work = sum(view.records > 0 for view in found.views)
    return f"{found.name}, {members}, {work} of {len(found.views)} partitions have work"


def _registry(config: Config, pipelines: Mapping[str, PipelineConfig]) -> Iterator[Check]:
    """What opens the values of those that are not plain JSON, tried once for each format."""
    from streamer.kafka.schemas import RegistrySchemas

    formats = {
        name: msgspec.structs.replace(pipeline, input_format=name)
        for pipeline in pipelines.values()
        for name in (pipeline.input_format, pipeline.output_format)
        if name != "json"
    }
    for name, pipeline in formats.items():
        findings = []
        try:
            with closing(RegistrySchemas(config.schema_registry, pipeline)) as schemas:
                outage = schemas.reach()
        except ConfigurationError as failure:
            findings.append(_told("registry.missing", "input_format", str(failure)))
        else:
            if outage is not None:
                given = config.schema_registry
                urls = [url.strip() for url in given.url.split(",")]
                ca = "schema_registry.ca_file", given.ca_file
                peer = None if any(map(is_by_proxy, urls)) else _http_peer(urls, "schema_registry.url", ca)
                findings.append(error("registry.unreachable", "schema_registry", *(peer or outage)))
        yield Check("schema registry", f"{config.schema_registry.url} for {name}", findings)


def _http_peer(urls: Sequence[str], setting: str, ca: tuple[str, str]) -> tuple[str, str] | None:
    """Who answers in place of a server over HTTP at one of `urls`, which `setting` names. `ca` is the setting of its
    CA's file, and that file. Not for one that is asked through a proxy, which need not answer this machine."""
    tls = urls[0].startswith("https:")
    expected = Expected(
        "HTTP",
        tls,
        setting,
        with_tls=f"write https:// in {setting}",
        without_tls=f"write http:// in {setting}",
        trust=f"name the file of its CA in {ca[0]}",
    )
    places = [(parts.hostname or "", parts.port or (443 if tls else 80)) for parts in map(urlsplit, urls)]
    return explain([look_at_peer(*place, first="HTTP", ca_file=ca[1]) for place in places], expected)


def _of_its_server(name: str, pipeline: PipelineConfig, found: ModelInfo) -> ModelInfo:
    """What is known of a model; where a server that is to run it does not, who answers in place of it."""
    if not found.failure or not pipeline.model.startswith(("http://", "https://")) or is_by_proxy(pipeline.model):
        return found
    field = f"pipelines.{name}"
    peer = _http_peer([pipeline.model], f"{field}.model", (f"{field}.served_ca", pipeline.served_ca))
    return replace(found, failure="; ".join(peer)) if peer else found


def _about_cache(found: CacheInfo) -> str:
    return f"{found.address}{f': {found.version}, {found.policy}' if found.version else ''}"


def _about_model(reference: str, found: ModelInfo) -> str:
    if found.failure or not found.name:
        return reference
    loaded = f", ready on {found.device} in {found.seconds:.1f} s, {found.worker_bytes / 1e6:,.0f} MB"
    return f"{found.name} {found.revision[:12]}{loaded if found.device else ''}".strip()
