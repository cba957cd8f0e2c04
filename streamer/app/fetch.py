"""What a run needs of the hub, before its workers start: a live bar on a terminal, lines of the log elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from streamer.config.load import PipelineConfig
from streamer.inference.models import hub
from streamer.inference.models.reference import HubModel, parse

SAY_EVERY_S: Final = 10.0
_SHOWN: Final = 12

log = logging.getLogger(__name__)


def fetch_model(pipeline: PipelineConfig) -> None:
    """Download the pipeline's model where it may be and is not here; nothing otherwise. Raises StreamerError."""
    if pipeline.allow_downloads:
        fetch(pipeline.model)
        if pipeline.adapter:
            fetch(pipeline.adapter)


def fetch(reference: str) -> None:
    """Download a model of the hub unless it is here; other references have nothing to fetch. Raises StreamerError."""
    found = parse(reference)
    if isinstance(found, HubModel):
        with (_bar if sys.stderr.isatty() else _lines)(f"{found.repository}@{found.revision[:_SHOWN]}") as tell:
            hub.fetch(found.repository, found.revision, tell)


@contextmanager
def _lines(model: str) -> Iterator[Callable[[int, int], None]]:
    began = said = time.monotonic()
    last = 0

    def tell(done: int, total: int) -> None:
        nonlocal said, last
        now = time.monotonic()
        if not last or now - said >= SAY_EVERY_S:
            said = now
            log.info("downloading %s: %.1f of %.1f MB", model, done / 1e6, total / 1e6)
        last = done

    yield tell
    if last:
        log.info("downloaded %s in %.1f s", model, time.monotonic() - began)


@contextmanager
def _bar(model: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = None

        def tell(done: int, total: int) -> None:
            nonlocal task
            task = progress.add_task(model, total=None) if task is None else task
            progress.update(task, completed=done, total=total)

        yield tell
