"""What fields must hold together, beyond each field's own bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from streamer.config.fields import Config, PipelineConfig, start_time_ms
from streamer.config.properties import refusal
from streamer.config.url import url_problem

Problem = tuple[tuple[str, ...], str]


def cross_check(config: Config) -> Iterator[Problem]:
    """Everything wrong with a configuration whose fields are each well formed: (key path, what and how to mend)."""
    for name, value in config.kafka.properties.items():
        if reason := refusal(name, value):
            yield ("kafka", "properties", name), reason
    if config.cache.url and (text := url_problem(config.cache.url)):
        yield ("cache", "url_file" if config.cache.url_file else "url"), text
    for name, pipeline in config.pipelines.items():
        for field, text in _check_pipeline(config, pipeline):
            yield ("pipelines", name, field), text
    for ring in _rings(config.pipelines):
        yield (
            ("pipelines", ring[0]),
            f"its results or dead letters come back as its input ({' → '.join([*ring, ring[0]])}), so events go round"
            " for ever; let one of these pipelines read or write another topic",
        )
    for (one, first), (other, second) in combinations(config.pipelines.items(), 2):
        if first.group == second.group:
            text = f"the group {second.group} is also pipeline {one}'s, so each would get a part of the records"
            yield ("pipelines", other, "group"), f"{text}; give each pipeline its own"
        if _variable(one) == _variable(other):
            text = f"environment variables can't tell it from pipeline {one}; rename one of the two"
            yield ("pipelines", other), text


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
            if topic in telemetry:
                yield field, f"{topic} is a topic of [telemetry]; name another topic"
    yield from _check_shape(pipeline)
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


def _variable(name: str) -> str:
    """How an environment variable writes a pipeline's name."""
    return name.lower().replace("-", "_")
