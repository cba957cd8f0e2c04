"""Rules on what pipelines of one configuration do to one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from streamer.config import PipelineConfig
from streamer.ops.doctor.finding import Finding, error, warning


def judge(pipelines: Mapping[str, PipelineConfig]) -> Iterator[Finding]:
    """Loops, and topics that two pipelines write different things to."""
    for ring in _loops(pipelines):
        yield error(
            "pipelines.loop",
            f"pipeline {ring[0]}",
            f"its outcomes come back as its input ({' → '.join([*ring, ring[0]])}): events go round for ever",
            "let one of them read or write another topic",
        )
    for (one, first), (other, second) in combinations(pipelines.items(), 2):
        where = f"pipelines {one} and {other}"
        if first.output == second.output:
            yield warning(
                "pipelines.output",
                where,
                f"both write results to {first.output}: subscribers get two results for one event",
                "give each its own output, unless subscribers tell them apart by the field `pipeline`",
            )
        for topic in {first.output, first.dead_letter} & {second.output, second.dead_letter}:
            if (first.output == topic) != (second.output == topic):
                yield error(
                    "pipelines.output",
                    where,
                    f"{topic} takes the results of one and the dead letters of the other",
                    "name another topic for one of the two",
                )


def _loops(pipelines: Mapping[str, PipelineConfig]) -> Iterator[list[str]]:
    """Rings of pipelines, each named once, from its first member in the configuration's order."""
    after = {
        name: [
            other for other, reader in pipelines.items() if {pipeline.output, pipeline.dead_letter} & set(reader.input)
        ]
        for name, pipeline in pipelines.items()
    }
    order = {name: number for number, name in enumerate(pipelines)}

    def walk(path: list[str]) -> Iterator[list[str]]:
        for following in after[path[-1]]:
            if following == path[0]:
                yield path
            elif following not in path and order[following] > order[path[0]]:
                yield from walk([*path, following])

    for name in pipelines:
        yield from walk([name])
