"""`streamer bench`: what streamer adds to a loop of one's own, measured on this machine."""

from __future__ import annotations

import click

from streamer.cli.bench import alone, through_kafka
from streamer.cli.bench.device import device
from streamer.cli.bench.scale import scale


@click.group()
def bench() -> None:
    """Measure streamer against the shortest loops that do the same, side by side in one run."""


for command in (
    through_kafka.throughput,
    through_kafka.latency,
    through_kafka.restart,
    through_kafka.memory,
    through_kafka.poison,
    through_kafka.dlq,
    through_kafka.health,
    alone.inference,
    alone.generation,
    alone.served,
    alone.report,
    device,
    alone.simulate,
    alone.drift,
    alone.chaos,
    scale,
):
    bench.add_command(command)
