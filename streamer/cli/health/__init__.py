"""`streamer health`: is the model still right?"""

from __future__ import annotations

import click

from streamer.cli.health.run import run


@click.group()
def health() -> None:
    """Is the model still right? Watches pipelines by their reports, beside them: none of them waits for it."""


for command in (run,):
    health.add_command(command)
