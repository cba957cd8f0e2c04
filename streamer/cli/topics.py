"""`streamer topics`: check or create the topics that the configuration names."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from streamer.cli.options import chosen_pipelines, configured
from streamer.config.load import Config
from streamer.errors import ExitCode

if TYPE_CHECKING:
    from streamer.kafka.topics import Finding

_pipeline = click.option(
    "--pipeline", "names", multiple=True, metavar="NAME", help="Only this pipeline; may be repeated."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def topics() -> None:
    """Check or create the topics that the configuration names."""


@topics.command()
@_pipeline
@_json
@configured
def check(config: Config, names: tuple[str, ...], as_json: bool) -> int:
    """Say what is wrong with the topics and how to fix it. Exits 3 when a pipeline can't start with them."""
    from streamer.kafka import topics as kafka_topics

    pipelines = chosen_pipelines(config, names)
    findings = kafka_topics.check(kafka_topics.connect(config.kafka), config, pipelines, operator=True)
    return _report(pipelines, [], findings, as_json)


@topics.command()
@_pipeline
@_json
@click.option(
    "--input-partitions", type=click.IntRange(1), help="Create missing inputs too, with this many partitions."
)
@click.option("--replication", type=click.IntRange(1), help="Copies of each partition. Default: the broker's.")
@configured
def create(
    config: Config, names: tuple[str, ...], as_json: bool, input_partitions: int | None, replication: int | None
) -> int:
    """Create what is missing, then check. Changes nothing that exists. Exits 3 when a pipeline can't start."""
    from streamer.kafka import topics as kafka_topics

    pipelines = chosen_pipelines(config, names)
    admin = kafka_topics.connect(config.kafka)
    created = kafka_topics.create(
        admin, config, pipelines, input_partitions=input_partitions, replication=replication or -1
    )
    return _report(pipelines, created, kafka_topics.check(admin, config, pipelines, operator=True), as_json)


def _report(pipelines: list[str], created: list[str], findings: list[Finding], as_json: bool) -> int:
    code = ExitCode.DONE if all(each.warning for each in findings) else ExitCode.CONFIGURATION
    if as_json:
        click.echo(json.dumps({"created": created, "findings": [dataclasses.asdict(each) for each in findings]}))
        return code
    for topic in created:
        click.echo(f"created {topic}")
    for finding in findings:
        kind = "warning: " if finding.warning else ""
        click.echo(f"{kind}{finding.topic}: {finding.problem}\n  fix: {finding.fix}")
    if not findings:
        click.echo(f"OK: every topic of {', '.join(pipelines)} is as it should be")
    return code
