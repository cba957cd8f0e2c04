"""`streamer health report`: model health as one page, to keep or to send."""

from __future__ import annotations

import time
from pathlib import Path

import click

from streamer.cli.options import configured
from streamer.config.load import Config
from streamer.errors import UsageError

_LENGTHS = ("5m", "1h")


@click.command(short_help="Write how the models do as one page with pictures.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--html",
    "file",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page.",
)
@click.option(
    "--window",
    type=click.Choice(_LENGTHS),
    default="5m",
    show_default=True,
    help="How much time a point covers: 5m shows a day, 1h two weeks.",
)
@configured
def report(config: Config, names: tuple[str, ...], file: Path, window: str) -> None:
    """Write how the models of the pipelines NAME do, or of all, as one HTML page with pictures. It needs no network and
    no script, and has no text of an event.

    It shows what the console's page of model health shows, from what the health app has written. Where the app has
    written nothing, the reports of the last day are read and judged here.
    """
    from streamer.core.health.pages.picture import picture
    from streamer.core.health.windows.fold import FIVE_MINUTES_MS, HOUR_MS
    from streamer.health.summary.page import page_of
    from streamer.health.summary.report import gathered

    now_ms = int(time.time() * 1000)
    view, source = gathered(config, names, now_ms)
    shown = [name for name in sorted(view.pipelines) if not names or name in names]
    if not shown:
        raise UsageError("nothing was settled in the last day: does a pipeline run? streamer status")
    length_ms = {"5m": FIVE_MINUTES_MS, "1h": HOUR_MS}[window]
    pictures = [picture(name, view.pipelines[name], length_ms, now_ms) for name in shown]
    try:
        file.write_text(page_of(pictures, now_ms, source), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {file}: {error.strerror}; name a file in a folder that may be written to") from None
    for one in pictures:
        click.echo(f"{one.pipeline}: {one.headline.state}; {one.headline.what}")
    click.echo(f"written: {file}")
