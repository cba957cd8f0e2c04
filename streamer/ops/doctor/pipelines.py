"""Rules on what pipelines of one configuration do to one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from streamer.config import PipelineConfig
from streamer.ops.doctor.finding import Finding, error, warning


def judge(pipelines: Mapping[str, PipelineConfig]) -> Iterator[Finding]:
    """Topics that two pipelines write different things to."""
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
