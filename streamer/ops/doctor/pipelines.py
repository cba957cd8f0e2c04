"""Rules on what pipelines of one configuration do to one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from streamer.config.load import PipelineConfig
from streamer.core.surroundings import RunningInfo
from streamer.ops.doctor.finding import Finding, error, warning


def judge(pipelines: Mapping[str, PipelineConfig]) -> Iterator[Finding]:
    """Topics that two pipelines write to."""
    for (one, first), (other, second) in combinations(pipelines.items(), 2):
        where = f"pipelines {one} and {other}"
        if first.output == second.output:
            yield warning(
                "pipelines.output",
                where,
                f"both write results to {first.output}: subscribers get two results for one event",
                "give each its own output, unless subscribers tell them apart by the field `pipeline`",
            )


def judge_running(name: str, pipeline: PipelineConfig, running: Sequence[RunningInfo]) -> Iterator[Finding]:
    """Rings with pipelines of other configurations, found by what their members say. Those of one configuration are
    refused with it."""
    ways = {topic: [f"pipeline {name}"] for topic in (pipeline.output, pipeline.dead_letter)}
    waiting = list(ways)
    while waiting:
        topic = waiting.pop()
        if topic in pipeline.input:
            ring = " → ".join([*ways[topic], f"pipeline {name}"])
            yield error(
                "pipelines.loop",
                f"pipeline {name}",
                f"its results or dead letters come back as its input ({ring}): events go round forever",
                "let one of them read or write another topic",
            )
            return
        for other in running:
            if topic in other.inputs and other.group != pipeline.group and other.output not in ways:
                ways[other.output] = [*ways[topic], f"group {other.group}"]
                waiting.append(other.output)
