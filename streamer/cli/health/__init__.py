"""`streamer health`: is the model still right?"""

from __future__ import annotations

import click

from streamer.cli.health.run import run
from streamer.cli.health.status import status


@click.group()
def health() -> None:
    """Is the model still right? Watches pipelines by their reports, beside them: none of them waits for it."""


for command in (run, status):
    health.add_command(command)
