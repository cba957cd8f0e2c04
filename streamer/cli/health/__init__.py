"""`streamer health`: whether the models still do what they did."""

from __future__ import annotations

import click

from streamer.cli.health.status import status


@click.group()
def health() -> None:
    """Look at how the models do: what they answer, how sure they are, and how that moves."""


for command in (status,):
    health.add_command(command)
