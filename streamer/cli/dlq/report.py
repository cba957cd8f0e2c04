"""What a move would do and does: a survey as a table or JSON, and a progress bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from streamer.cli.dlq.views import plain
from streamer.ops.dlq.documents import survey_json

if TYPE_CHECKING:
    from streamer.ops.dlq.survey import Order, Survey


def print_survey(order: Order, found: Survey, *, as_json: bool, dry: bool) -> None:
    """Say what would move where and how many, what stays and why, and how to go on with the job."""
    if as_json:
        click.echo(json.dumps(survey_json(order, found, dry=dry), ensure_ascii=False))
        return
    verb = "close" if order.action == "discard" else "move"
    for (topic, target, partition), count in sorted(found.moves.items()):
        where = f" → {target}/{partition}" if target else ""
        click.echo(plain(f"{count:>9,}  {topic}{where}"))
    click.echo(f"{found.total:>9,}  to {verb}")
    for why, refused in sorted(found.refused.items(), key=lambda item: -item[1].count):
        click.echo(plain(f"{refused.count:>9,}  stay: {why}  (e.g. {refused.example})"))
    if found.closed:
        mine = f", {found.before:,} of them by this job" if found.before else ""
        click.echo(f"{found.closed:>9,}  were replayed or discarded before{mine}")
    for (pipeline, model), count in sorted(found.same_model.items()):
        what = f"{count:,} of them failed with {model}, which {pipeline} runs now: they may well fail again"
        click.echo(plain(f"note: {what}"))
    if found.scattered:
        names = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(found.scattered)[:5])
        click.echo(f"note: dead letters of {names} are on several partitions, so their order is kept only within each")
    if dry:
        click.echo(f"digest {found.digest}: --execute --digest {found.digest} does this and nothing else")
        click.echo("dry run: nothing was written; add --execute to do it")
    elif found.total:
        click.echo(f"job {order.signature.job}: after an interruption, the same command with --job continues", err=True)


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """Gives what is to be told how many are done; a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)
