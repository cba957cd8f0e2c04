"""`streamer dlq`: look at dead letters, find out why there are any, and send them back or close them."""

from __future__ import annotations

import gc

import click

from streamer.cli.dlq.carry import export, import_
from streamer.cli.dlq.look import causes, list_, show
from streamer.cli.dlq.move import discard, edit, replay

# Records are freed by their reference counts. With the default thresholds the cycle collector looks through the live
# ones of each batch again and again: a quarter of the time of reading a million (measured, CPython 3.11).
_GC_THRESHOLDS = (100_000, 50, 50)


@click.group()
def dlq() -> None:
    """Look at dead letters, find out why there are any, and send them back or close them.

    Reads dead letters of streamer, Kafka Connect, Kafka Streams, Spring, share groups, Arroyo and Redpanda Connect.
    Those that were replayed or discarded are left out unless --all is given.
    """
    gc.set_threshold(*_GC_THRESHOLDS)


for command in (list_, causes, show, replay, edit, discard, export, import_):
    dlq.add_command(command)
