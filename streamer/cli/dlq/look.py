"""`streamer dlq list`, `causes` and `show`: look, and change nothing."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import click
import msgspec

from streamer.cli.dlq import views
from streamer.cli.dlq.options import Search, dead_letter_topics, place, searching, selecting
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.core.deadletters.causes import Causes
from streamer.core.deadletters.families import Family
from streamer.core.deadletters.letter import DeadLetter
from streamer.core.deadletters.selection import Selection
from streamer.errors import UsageError
from streamer.ops.dlq import documents

MOST_SHOWN = 10
_all = click.option("--all", "with_closed", is_flag=True, help="Include those that were replayed or discarded.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


@click.command("list")
@searching
@_all
@click.option("--max", "most", type=click.IntRange(1), help="Stop after this many dead letters.")
@_json
def list_(search: Search, with_closed: bool, most: int | None, as_json: bool) -> None:
    """List dead letters of TOPICS, by default of all dead-letter topics of the configuration.

    Exits 2 when a filter was given and nothing matches.
    """
    letters = search.letters(with_closed=with_closed)
    shown = 0
    write = sys.stdout.write  # click.echo flushes each line, which would cost more than the search
    for shown, letter in enumerate(itertools.islice(letters, most), 1):
        state = search.closed.find(letter) if with_closed else None
        if as_json:
            write(f"{msgspec.json.encode(documents.letter_json(letter, state)).decode()}\n")
            continue
        if shown == 1:
            write(f"{views.HEADING}\n")
        write(f"{views.letter_line(letter, state)}\n")
    if not shown:
        nothing(search.topics, search.words)


@click.command()
@searching
@_all
@_json
def causes(search: Search, with_closed: bool, as_json: bool) -> None:
    """Show why there are dead letters: a line for each cause, the most frequent first.

    A cause is a code, an exception and a message without its numbers and ids. Give its FINGERPRINT to --cause of the
    other commands.
    """
    grouped = Causes()
    for letter in search.letters(with_closed=with_closed):
        grouped.add(letter)
    found = grouped.by_count()
    times = [time_ms for cause in found for time_ms in (cause.first_ms, cause.last_ms) if time_ms >= 0]
    first_ms, last_ms = min(times, default=0), max(times, default=0)
    for cause in found:
        if as_json:
            click.echo(json.dumps(documents.cause_json(cause, first_ms, last_ms), ensure_ascii=False))
        else:
            click.echo(views.cause_line(cause, first_ms, last_ms))
    if not found:
        nothing(search.topics, search.words)


@click.command()
@click.argument("where", nargs=-1, metavar="TOPIC/PARTITION/OFFSET | [TOPIC]...")
@selecting
@click.option(
    "--as",
    "form",
    type=click.Choice(list(views.FORMS)),
    default="auto",
    show_default=True,
    help="How to show the value.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@configured
def show(
    config: Config, where: tuple[str, ...], selection: Selection, asked: dict[str, Any], form: str, as_json: bool
) -> None:
    """Show all of a dead letter: its cause, where it came from, its headers, and its value as text, JSON or hex.

    Name it by its place, or by a filter such as --key, --id or --trace, which shows at most ten, open or closed. A
    record of a pipeline's input is shown by its place, too. This prints the texts of records.
    """
    from streamer.ops.dlq.find import letter_at

    search = Search(config, dead_letter_topics(config, where) if asked else [], selection, asked)
    if asked:
        letters = list(itertools.islice(search.letters(with_closed=True), MOST_SHOWN + 1))
        if not letters:
            nothing(search.topics, asked)
        if len(letters) > MOST_SHOWN:
            click.echo(f"more than {MOST_SHOWN} match: the first ones are shown; see `streamer dlq list`", err=True)
    else:
        if len(where) != 1:
            raise UsageError("write TOPIC/PARTITION/OFFSET, or a filter such as --key KEY, --id ID or --trace TRACE_ID")
        wanted = place(where[0])
        found = letter_at(search.log, wanted)
        if found is None:
            raise UsageError(f"no record at {wanted}: it was deleted, or never existed; see `streamer dlq list`")
        letters = [found]
    for number, letter in enumerate(letters[:MOST_SHOWN]):
        readers = _readers(config, letter)
        state = None if readers else search.closed.find(letter)
        if as_json:
            click.echo(json.dumps(documents.whole_json(letter, state, readers), ensure_ascii=False))
            continue
        if number:
            click.echo()
        for line in views.whole(letter, state, form, readers):
            click.echo(line)


def _readers(config: Config, letter: DeadLetter) -> list[str]:
    """The pipelines that read a record which is no dead letter."""
    if letter.reason.family is not Family.UNKNOWN:
        return []
    return [name for name, one in config.pipelines.items() if letter.place.topic in one.input]


def nothing(topics: list[str], asked: dict[str, Any]) -> None:
    """Say that there is nothing. Raises UsageError when that is a filter's doing."""
    where = ", ".join(topics)
    if asked:
        raise UsageError(f"no dead letter in {where} matches; widen the filter, or look at the closed ones with --all")
    click.echo(f"no dead letters in {where}", err=True)
