"""`streamer health baseline`: what was usual for a model, saved to hold later windows against."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from streamer.cli.dlq.options import time_ms
from streamer.cli.dlq.views import plain
from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from streamer.core.health.words import BaselineWord

_DAY_CHARS = len("2026-11-24")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group(short_help="Save and show what is usual for a model.")
def baseline() -> None:
    """Save what is usual for a model, and look at what was saved. The health app judges drift against it.

    A baseline belongs to one revision of a pipeline's model, and stays as it is until another one is saved. A new
    revision needs one of its own: its answers may rightly differ.
    """


@baseline.command(short_help="Save what is usual for models.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--since", metavar="TIME", default="7d", show_default=True, help="From when on: 7d, 24h, or a time.")
@click.option("--until", metavar="TIME", help="Up to when, written like --since. Default: now.")
@click.option("--revision", metavar="DIGEST", default="", help="Of which revision: the start of its digest is enough."
              " Default: the one that answered last.")  # fmt: skip
@click.option(
    "--steady", is_flag=True, help="The traffic is the same at all hours: less than a day tells what is usual."
)
@click.option("--replace", is_flag=True, help="Replace a baseline that this revision has.")
@configured
def save(
    config: Config,
    names: tuple[str, ...],
    since: str,
    until: str | None,
    revision: str,
    steady: bool,
    replace: bool,
) -> None:
    """Save what is usual for the models of the pipelines NAME, or of all.

    It is taken from the pipelines' reports (telemetry.reports) of a stretch of time in which all was well, a week at
    best: a shorter one has not seen every hour and day. It is written to the topic that health.topic names, where a
    running health app finds it within seconds. Nothing is saved if too little was settled, for any one of the
    pipelines. A baseline that replaces another keeps its calibration.
    """
    from streamer.core.health.windows.fold import FIVE_MINUTES_MS, KEEP, Fold
    from streamer.health.baselines import known, taken, write
    from streamer.health.summary.read import read_since

    if not config.telemetry.reports:
        raise UsageError("the configuration has no topic for reports, which describe the models: set telemetry.reports")
    if revision and len(names) != 1:
        raise UsageError("--revision is about one model: name its pipeline")
    now, now_ms = datetime.now(UTC), int(time.time() * 1000)
    since_ms = time_ms("--since", since, now) or 0
    until_ms = min(time_ms("--until", until, now) or now_ms, now_ms)
    if since_ms >= until_ms:
        raise UsageError(f"--since {since} is not before --until {until or 'now'}: name an earlier time")
    fold = Fold({**KEEP, FIVE_MINUTES_MS: (now_ms - since_ms) // FIVE_MINUTES_MS + 2})
    there = read_since(config.kafka, config.telemetry.reports, since_ms, fold, names)
    for name in names:
        if name not in config.pipelines and name not in there:
            found = ", ".join(sorted({*config.pipelines, *there})) or "none"
            raise UsageError(f"neither the configuration nor a report knows of a pipeline {name}; there are: {found}")
    if not names and not there:
        raise UsageError(f"no pipeline has reported since {since}: run one, or name an earlier time with --since")
    words = [
        taken(fold, name, since_ms, until_ms, now_ms, revision=revision, steady=steady)
        for name in dict.fromkeys(names or sorted(there))
    ]
    saved = known(config)
    for word in words:
        if (before := saved.get(word.key)) is None:
            continue
        if not replace:
            at = _clock(before.saved_ms)
            raise UsageError(f"{word.pipeline}: {_model(word)} has a baseline, saved {at}; --replace replaces it")
        word.calibration = before.calibration
    write(config, words)
    for word in words:
        click.echo(f"saved: {_sentence(word)}")
        if not word.steady and not word.baseline.covers_a_day:
            click.echo(
                "  It covers less than a day: what moves may be the hour of the day, and is not called drift until the"
                " app knows the same hour of three days before. Save a day or more (--since 1d) as soon as there is"
                " one, or save it with --steady if your traffic is the same at all hours."
            )
        elif not word.baseline.covers_a_week:
            click.echo(
                "  It covers less than a week: an hour of the day, or a day, that it has not seen may look like drift."
                " Once the app knows the same hour of three days before, it judges by that."
            )


@baseline.command(short_help="Add how often confident answers are right.")
@click.argument("name", metavar="NAME")
@click.argument("evaluation", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@configured
def calibrate(config: Config, name: str, evaluation: Path) -> None:
    """Add to the saved baseline of the pipeline NAME how often answers of a given confidence are right, so that the
    health app can estimate accuracy without labels.

    FILE is what `streamer evaluate --save-baseline FILE` has written of the same revision. The baseline itself stays as
    it is.
    """
    from streamer.health.baselines import calibrated, known, write

    revision, calibration = calibrated(evaluation.read_bytes(), str(evaluation))
    found = [word for word in known(config).values() if word.pipeline == name and word.revision == revision]
    if not found:
        raise UsageError(
            f"{evaluation} is about the revision {revision}, of which {name} has no baseline; save one first: streamer"
            f" health baseline save {name} --revision {revision[:12]}"
        )
    (word,) = found
    word.calibration = calibration
    write(config, [word])
    click.echo(f"calibrated by {calibration.total:,} labelled answers: {_sentence(word)}")


@baseline.command("list", short_help="List the saved baselines.")
@_json
@configured
def list_(config: Config, as_json: bool) -> None:
    """List the saved baselines: of which model, how old they are, and how much they were taken from."""
    from streamer.health.baselines import about, known

    found = list(known(config).values())
    if as_json:
        click.echo(msgspec.json.encode({"baselines": [about(word) for word in found]}))
        return
    if not found:
        click.echo("no baseline yet; once all is as usual, save one: streamer health baseline save")
        return
    from rich.console import Console

    Console().print(table(found, time.time()))


def table(found: Sequence[BaselineWord], now_s: float) -> Table:
    """A row for each baseline."""
    from rich import box
    from rich.table import Table

    from streamer.core.tally import duration

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("pipeline", "model", "age", "from", "to", "records"):
        number, day = heading in ("age", "records"), heading in ("from", "to")
        # Names are folded, not cut: the end of a model's is what tells it from others.
        grid.add_column(
            heading,
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
            min_width=_DAY_CHARS if day else None,
        )
    for word in found:
        covers = _clock(word.baseline.since_ms), _clock(word.baseline.until_ms)
        age = duration(max(now_s - word.saved_ms / 1000, 0.0))
        grid.add_row(*map(plain, (word.pipeline, _model(word), age, *covers, f"{word.records:,}")))
    return grid


@baseline.command(short_help="Show what is usual for a pipeline's model.")
@click.argument("name", metavar="NAME")
@click.option("--revision", metavar="DIGEST", default="", help="The start of a revision's digest. Default: all.")
@_json
@configured
def show(config: Config, name: str, revision: str, as_json: bool) -> None:
    """Show the saved baselines of the pipeline NAME: what each monitor found to be usual, over how many records, and
    how many records it needs to judge a window."""
    from streamer.health.baselines import known

    saved = list(known(config).values())
    found = [word for word in saved if word.pipeline == name and word.revision.startswith(revision)]
    if not found:
        there = ", ".join(f"{word.pipeline} ({_model(word)})" for word in saved) or "none"
        raise UsageError(
            f"no baseline of {name}{f' {revision}' if revision else ''}; there are: {there}. To save one: streamer"
            f" health baseline save {name}"
        )
    if as_json:
        click.echo(msgspec.json.encode({"baselines": found}))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for word in found:
        click.echo(_sentence(word))
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for heading in ("monitor", "records", "needs", "usual"):
            grid.add_column(heading, justify="right" if heading in ("records", "needs") else "left")
        for row in _monitors(word):
            grid.add_row(*(Text(plain(cell)) for cell in row))
        console.print(grid)


def _monitors(word: BaselineWord) -> Iterator[tuple[str, str, str, str]]:
    from streamer.core.health.drift.deviation import needed
    from streamer.core.health.drift.monitors import MONITORS
    from streamer.core.health.drift.sentence import usual

    for monitor in MONITORS:
        if references := word.baseline.references.get(monitor.name):
            sums = references[0].sums
            yield monitor.name, f"{sums.records:,}", f"{needed(monitor, references):,}", usual(monitor, sums)


def _model(word: BaselineWord) -> str:
    return f"{word.model}@{word.revision[:12]}"


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _sentence(word: BaselineWord) -> str:
    stretch = f"from {_clock(word.baseline.since_ms)} to {_clock(word.baseline.until_ms)}"
    tail = ", with a calibration" if word.calibration is not None else ""
    return plain(
        f"{word.pipeline} ({_model(word)}): {word.records:,} results in {word.baseline.windows:,} stretches of five"
        f" minutes {stretch}, {len(word.baseline.references)} monitors{tail}"
    )
