"""`streamer infer`: lines in, lines out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BufferedReader
from typing import BinaryIO

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.cli.options import config_options, loaded
from streamer.errors import ExitCode, UsageError

ADHOC = "infer"


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--pipeline", "name", metavar="NAME", help="A pipeline of the configuration.")
@click.option("--task", help="Without --pipeline: what the model does, e.g. text-classification.")
@click.option("--model", help="Without --pipeline: model reference, e.g. a directory.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the task, e.g. top_k=3.")
@click.option("--dtype", default=None, help="auto, float32, bfloat16 …")
@click.option("--text", is_flag=True, help="Each line is a text, not JSON.")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="Default: standard output.")
@config_options
def infer(
    file: BufferedReader,
    name: str | None,
    task: str | None,
    model: str | None,
    options: tuple[str, ...],
    dtype: str | None,
    text: bool,
    output: BinaryIO,
    config_path: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
) -> ExitCode:
    """Ask the model about each line of FILE (JSON events, or texts with --text).

    One line comes out for each that goes in, in the same order: the result, or {"line", "error"}. Exit code 4 says
    that some lines failed.
    """
    import logging

    from streamer.infer import infer as run_infer

    logging.basicConfig(level="DEBUG" if verbose else "WARNING", format="%(levelname)s %(name)s: %(message)s")
    settings = [*overrides, *_adhoc(name, task, model, options, dtype)]
    config = loaded(config_path, settings)
    if file.isatty():
        click.echo("streamer: reading lines from the terminal; end with Ctrl-D", err=True)
    with _progress(file) as bar:
        return run_infer(config, name or ADHOC, file, output, wrap=_as_event if text else None, progress=bar)


def _adhoc(
    name: str | None, task: str | None, model: str | None, options: tuple[str, ...], dtype: str | None
) -> list[str]:
    """The settings of a pipeline that is made up for this call, or those that change a configured one."""
    if name is None and (task is None or model is None):
        raise UsageError("name a configured pipeline with --pipeline, or give both --task and --model")
    path = f"pipelines.{name or ADHOC}"
    settings = [f"{path}.options.{option}" for option in options]
    if task is not None:
        settings.append(f"{path}.task={task}")
    if model is not None:
        settings.append(f"{path}.model={model}")
    if dtype is not None:
        settings.append(f"{path}.dtype={dtype}")
    if name is None:
        settings += [f"{path}.input=lines", f"{path}.output=lines.{ADHOC}"]
    return settings


def _as_event(line: bytes) -> bytes:
    """A line that is no UTF-8 is handed on as it is: it is refused where it is decoded, as an event would be."""
    try:
        return msgspec.json.encode({"text": line.decode()})
    except UnicodeDecodeError:
        return line


class _progress:  # noqa: N801  a context manager that reads as a word
    """A line on standard error that counts, where a person looks at it."""

    def __init__(self, file: BufferedReader) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._file = file

    def __enter__(self) -> Callable[[int, int], None] | None:
        if not self._console.is_terminal or self._file.isatty():
            return None
        self._bar = Progress(
            TextColumn("{task.completed:,.0f} lines"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._bar.start()
        task = self._bar.add_task("infer", total=None, failed=0, rate="")

        def show(written: int, failed: int) -> None:
            assert self._bar is not None
            elapsed = self._bar.tasks[0].elapsed or 0.0
            rate = f"{written / elapsed:,.0f}/s" if elapsed else ""
            self._bar.update(task, completed=written, failed=failed, rate=rate)

        return show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        sys.stderr.flush()
