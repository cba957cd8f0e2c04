"""`streamer health`: is the model still right?"""

from __future__ import annotations

import click

from streamer.cli.health.baseline import baseline
from streamer.cli.health.report import report
from streamer.cli.health.run import run
from streamer.cli.health.status import status


@click.group()
def health() -> None:
    """Watch whether the models are still right, by what pipelines report; no pipeline waits for it."""


for command in (run, status, report, baseline):
    health.add_command(command)
