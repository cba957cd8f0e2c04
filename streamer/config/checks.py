"""What fields must hold together, beyond each field's own bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Final

from streamer.config.environment import spelling
from streamer.config.fields import Config, KafkaConfig
from streamer.config.health_checks import check_health
from streamer.config.otel import endpoint_problem
from streamer.config.pipeline import PipelineConfig, start_time_ms
from streamer.config.problems import LAST_PORT, Problem
from streamer.config.properties import property_text, refusal
from streamer.config.registry import check_format, check_registry
from streamer.config.seats import seats_of
from streamer.config.served_checks import check_served
from streamer.config.url import url_problem

_NO_HOST: Final = re.compile(r"[\s;|]")
"""Signs of no host's name that people put between brokers: the client would take them for a part of the first name."""
_LONGEST_TOPIC: Final = 249
_NO_TOPICS: Final = (".", "..")
_NO_TOPIC: Final = "Kafka refuses a topic name of dots only; choose another"


def cross_check(config: Config) -> Iterator[Problem]:
    """Everything wrong with a configuration whose fields are each well formed: (key path, what and how to fix it)."""
    for server in config.kafka.bootstrap_servers.split(","):
        if problem := _server_problem(server.strip()):
            yield ("kafka", "bootstrap_servers"), problem
    for name, value in config.kafka.properties.items():
        if reason := refusal(name, value):
            yield ("kafka", "properties", name), reason
    yield from _check_tokens(config.kafka)
    if config.cache.url and (text := url_problem(config.cache.url)):
        yield ("cache", "url_file" if config.cache.url_file else "url"), text
    for field, text in check_registry(config.schema_registry):
        yield ("schema_registry", field), text
    yield from _check_telemetry(config)
    yield from check_health(config)
    for name, pipeline in config.pipelines.items():
        for field, text in _check_pipeline(config, pipeline):
            yield ("pipelines", name, field), text
    for ring in _rings(config.pipelines):
        yield (
            ("pipelines", ring[0]),
            f"its results or dead letters come back as its input ({' → '.join([*ring, ring[0]])}), so events go round"
            " forever; let one of these pipelines read or write another topic",
        )
    for (one, first), (other, second) in combinations(config.pipelines.items(), 2):
        if first.group == second.group:
            text = f"the group {second.group} is also pipeline {one}'s, so each would get a part of the records"
            yield ("pipelines", other, "group"), f"{text}; give each pipeline its own"
        for field, topic in (("output", second.output), ("dead_letter", second.dead_letter)):
            if topic == (first.dead_letter if field == "output" else first.output):
                kind = "dead letters" if field == "output" else "results"
                yield ("pipelines", other, field), f"{topic} takes the {kind} of pipeline {one}; name another topic"
        if spelling(one) == spelling(other):
            text = f"environment variables can't tell it from pipeline {one}; rename one of the two"
            yield ("pipelines", other), text


_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")


def _server_problem(server: str) -> str:
    """What is wrong with one of the brokers to ask first."""
    protocol, mark, place = server.rpartition("://")
    host, colon, port = place.rpartition(":")
    if mark and protocol.lower() not in _PROTOCOLS:
        return f"{protocol}:// is no protocol of a broker's; write host:port"
    if not server:
        return "a comma has no broker next to it; write host:port, separated by commas"
    if sign := _NO_HOST.search(server):
        return f"{server} has {sign[0]!r} in it; write host:port, with commas between"
    if not colon or (port and server.endswith("]")):  # the client takes port 9092; an IPv6 address stands in brackets
        return ""
    if not host or not port.isdecimal() or not 0 < int(port) <= LAST_PORT:
        return f"{server} is not host:port, with a port from 1 to {LAST_PORT}; correct it"
    return ""


def _check_tokens(kafka: KafkaConfig) -> Iterator[Problem]:
    """Tokens come from one place, if the login is by token, and from none else."""
    given = {name: property_text(value) for name, value in kafka.properties.items()}
    name = "sasl.mechanisms" if "sasl.mechanisms" in given else "sasl.mechanism"
    by_token = given.get(name) == "OAUTHBEARER"
    by_client = given.get("sasl.oauthbearer.method", "").lower() == "oidc"
    if kafka.oauth_callback and not by_token:
        text = "it is for logins with tokens only"
        yield ("kafka", "oauth_callback"), f'{text}; write sasl.mechanism = "OAUTHBEARER" in kafka.properties'
    elif kafka.oauth_callback and by_client:
        text = "kafka.properties has sasl.oauthbearer.method = oidc, by which the client gets tokens itself"
        yield ("kafka", "oauth_callback"), f"{text}; remove one of the two"
    elif by_token and not (kafka.oauth_callback or by_client):
        text = "nothing says where tokens come from; name a function as kafka.oauth_callback, or let the client ask"
        yield ("kafka", "properties", name), f'{text} a token endpoint, with sasl.oauthbearer.method = "oidc"'


def _check_telemetry(config: Config) -> Iterator[Problem]:
    telemetry = config.telemetry
    if telemetry.spans and telemetry.spans == telemetry.reports:
        yield ("telemetry", "reports"), f"{telemetry.spans} takes the spans; name another topic"
    if telemetry.otlp_endpoint and (problem := endpoint_problem(telemetry.otlp_endpoint)):
        yield ("telemetry", "otlp_endpoint"), problem
    for field in ("spans", "reports"):
        if getattr(telemetry, field) in _NO_TOPICS:
            yield ("telemetry", field), _NO_TOPIC
    port = int(telemetry.http.rpartition(":")[2] or 0)
    count = len(seats_of(config.pipelines))
    last = port + count - 1
    if port > LAST_PORT:
        yield ("telemetry", "http"), f"there is no port {port}; write one up to {LAST_PORT}, or 0 for any"
    elif port and last > LAST_PORT:
        what = "pipelines" if count == len(config.pipelines) else "processes"
        text = f"{count} {what} listen on the ports from {port} to {last}, and {LAST_PORT} is the last"
        yield ("telemetry", "http"), f"{text}; write a lower one, or 0 for any"


def _check_pipeline(config: Config, pipeline: PipelineConfig) -> Iterator[tuple[str, str]]:
    telemetry = [topic for topic in (config.telemetry.spans, config.telemetry.reports) if topic]
    if len(set(pipeline.input)) < len(pipeline.input):
        yield "input", "a topic is named twice; name each once"
    if pipeline.output in pipeline.input:
        yield (
            "output",
            f"{pipeline.output} is an input too: results would be read as events; name another topic",
        )
    if pipeline.dead_letter in pipeline.input:
        yield (
            "dead_letter",
            f"{pipeline.dead_letter} is an input too: dead letters would loop; name another topic",
        )
    if pipeline.dead_letter == pipeline.output:
        yield "dead_letter", f"{pipeline.output} holds the results; name another topic"
    for field, topics in (
        ("input", pipeline.input),
        ("output", [pipeline.output]),
        ("dead_letter", [pipeline.dead_letter]),
    ):
        for topic in topics:
            if topic in _NO_TOPICS:
                yield field, _NO_TOPIC
            if len(topic) > _LONGEST_TOPIC:
                yield field, f"{topic} has {len(topic)} letters, and Kafka takes {_LONGEST_TOPIC}; name a shorter topic"
            if topic in telemetry:
                yield field, f"{topic} is a topic of [telemetry]; name another topic"
    yield from check_format(config.schema_registry, pipeline)
    yield from _check_shape(pipeline)
    yield from check_served(pipeline)
    if pipeline.slot in _NO_TOPICS:
        yield "slot", f"Kafka refuses {pipeline.slot} as the name of a member; name another"
    if pipeline.group != pipeline.group.strip():
        yield "group", "it begins or ends with a space; remove it"
    try:
        start_time_ms(pipeline.start)
    except ValueError:
        yield (
            "start",
            "write earliest, latest, or a time with its offset such as 2026-11-24T08:00:00Z",
        )


def _check_shape(pipeline: PipelineConfig) -> Iterator[tuple[str, str]]:
    given = {
        "text_pair_field": pipeline.text_pair_field,
        "id_field": pipeline.id_field,
        "keep": pipeline.keep,
        "envelope": pipeline.envelope != "none",
    }
    if not pipeline.text_field:
        for field in (field for field, value in given.items() if value):
            yield field, 'it is for events of another shape: name text_field too, e.g. text_field = "text"'
    for field, paths in (
        ("text_field", [pipeline.text_field]),
        ("text_pair_field", [pipeline.text_pair_field]),
        ("id_field", [pipeline.id_field]),
        ("keep", pipeline.keep),
    ):
        for path in paths:
            if path and not all(path.split(".")):
                yield field, f"{path} has an empty part; write names with single dots between, e.g. body.message"


def _rings(pipelines: Mapping[str, PipelineConfig]) -> Iterator[list[str]]:
    """Rings of two and more pipelines, each named once, from its first member in the configuration's order."""
    after = {
        name: [
            other for other, reader in pipelines.items() if {pipeline.output, pipeline.dead_letter} & set(reader.input)
        ]
        for name, pipeline in pipelines.items()
    }
    order = {name: number for number, name in enumerate(pipelines)}

    def walk(path: list[str]) -> Iterator[list[str]]:
        for following in after[path[-1]]:
            if following == path[0] and len(path) > 1:
                yield path
            elif following not in path and order[following] > order[path[0]]:
                yield from walk([*path, following])

    for name in pipelines:
        yield from walk([name])
