"""`streamer dlq`: look at dead letters, find out why they are there, and send them back or close them."""

from __future__ import annotations

import click

from streamer.cli.dlq.audit import audit
from streamer.cli.dlq.carry import export, import_
from streamer.cli.dlq.holds import bury, release
from streamer.cli.dlq.look import causes, list_, show
from streamer.cli.dlq.move import discard, edit, reopen, replay
from streamer.cli.dlq.outcome import outcome


@click.group()
def dlq() -> None:
    """Look at dead letters, find out why they are there, and send them back or close them.

    Reads dead letters of streamer, Kafka Connect, Kafka Streams, Spring, share groups, Arroyo and Redpanda Connect.
    Those that were replayed or discarded are left out unless --all is given.
    """


for command in (*(list_, causes, show, replay, outcome, edit, discard, reopen, bury, release, audit, export, import_),):
    dlq.add_command(command)
