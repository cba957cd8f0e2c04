"""`streamer infer`: files in, files out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.cli.options import chosen_pipelines, config_options, loaded, model_of
from streamer.errors import ExitCode, UsageError
from streamer.files.rows import FORMATS, STDIN, Fields, Rows, format_of

if TYPE_CHECKING:
    from streamer.app.infer import Progress as Counts

ADHOC = "infer"
SAY_EVERY_S = 10.0


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--pipeline", "name", metavar="NAME", help="A pipeline of the configuration.")
@click.option("--task", help="Without --pipeline: what the model does, e.g. text-classification.")
@click.option("--model", help="Without --pipeline: model reference, e.g. a directory.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the task, e.g. top_k=3.")
@click.option("--dtype", default=None, help="Precision: auto, float32, bfloat16 or float16.")
@click.option("--allow-downloads", is_flag=True, help="Fetch a model of the hub, org/name@REVISION, if it is not here.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(sorted(set(FORMATS.values()))),
    help="What the files are. Default: by their suffix, before .gz and .zst; else JSON lines.",
)
@click.option("--text", is_flag=True, help="The same as --format text: each line is a text.")
@click.option("--text-field", default="", metavar="NAME", help="The column, or path such as body.message, of the text.")
@click.option("--id-field", default="", metavar="NAME", help="The column or path of the id.")
@click.option("--keep", multiple=True, metavar="NAME", help="A column that results carry as metadata; '*' for all.")
@click.option("-o", "--output", default="-", metavar="OUT", help="JSON lines, or by suffix .csv or .parquet.")
@click.option("--errors", default=None, metavar="FILE", help="Failed rows go there, and not among the results.")
@click.option("--restart", is_flag=True, help="Start anew, and replace OUT once the new one is complete.")
@config_options
def infer(
    files: tuple[str, ...],
    name: str | None,
    task: str | None,
    model: str | None,
    options: tuple[str, ...],
    dtype: str | None,
    allow_downloads: bool,
    format_: Any,
    text: bool,
    text_field: str,
    id_field: str,
    keep: tuple[str, ...],
    output: str,
    errors: str | None,
    restart: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
) -> ExitCode:
    """Ask the model about each row of the FILEs, or of standard input.

    Rows are JSON events, texts, or rows of CSV or Parquet. One line comes out for each, in the same order: the result,
    or {"line", "error"}. With -o OUT the output appears when it is complete; a run that was killed or interrupted goes
    on where it was when the same command is given again. Exit code 4 says that some rows failed.
    """
    import logging

    from streamer.files.job import Job
    from streamer.files.sink import JobFiles, Stream
    from streamer.files.tables import arrow_for, to_csv, to_parquet

    logging.basicConfig(level="DEBUG" if verbose else "WARNING", format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("streamer.app.fetch").setLevel(logging.INFO)
    settings = [*overrides, *_adhoc(name, task, model, options, dtype)]
    if allow_downloads:
        settings.append(f"pipelines.{name or ADHOC}.allow_downloads=true")
    config = loaded(config_path, settings, check=model_of((name or ADHOC,)), of_flags=name or ADHOC)
    chosen_pipelines(config, (name or ADHOC,))
    paths = _paths(files)
    fields = Fields(text_field, id_field, keep)
    rows = Rows(paths, sys.stdin.buffer, "text" if text else format_, fields)
    for path in paths:
        if (format_ or format_of(path)) in ("csv", "parquet") and path != STDIN and not text:
            Rows([path], sys.stdin.buffer, format_, fields).read(1, 1)  # a missing column is told before a model loads
    if STDIN in paths and sys.stdin.isatty():
        click.echo("streamer: reading lines from the terminal; end with Ctrl-D", err=True)
    if output == STDIN:
        if restart:
            raise UsageError("--restart is for a job with -o OUT")
        target: Stream | JobFiles = Stream(sys.stdout.buffer, Path(errors).open("wb") if errors else None)  # noqa: SIM115
        job = None
    else:
        kind = format_of(output)
        if kind == "parquet":
            arrow_for(Path(output))
        convert = {"csv": to_csv, "parquet": to_parquet}.get(kind or "")
        job = Job(Path(output), Path(errors) if errors else None, restart, convert)
        if job.rows_done and STDIN in paths:
            raise UsageError(f"standard input can't be read again from row {job.rows_done:,} on: --restart starts anew")
        pipeline = config.pipelines[name or ADHOC]
        target = JobFiles(
            job,
            {
                "files": [_stamp(path) for path in paths],
                "format": "text" if text else format_,
                "fields": [text_field, id_field, list(keep)],
                "task": pipeline.task,
                "options": pipeline.options,
                "on_overflow": pipeline.on_overflow,
            },
        )
        if job.rows_done:
            click.echo(f"streamer: going on behind row {job.rows_done:,}", err=True)
    from streamer.app.infer import infer as run_infer  # and with it what an early end does without

    began = time.monotonic()
    done = job.rows_done if job else 0
    names = tuple(paths) if len(paths) > 1 else ()
    with _show(rows, sys.stdin.isatty() and STDIN in paths) as progress:
        code, counts = run_infer(config, name or ADHOC, rows, target, done=done, files=names, progress=progress)
    if isinstance(target, JobFiles):
        if code in (ExitCode.DONE, ExitCode.SOME_FAILED):
            code = ExitCode.SOME_FAILED if target.end() else ExitCode.DONE
        else:
            target.close()
    if job is not None or Console(stderr=True).is_terminal:
        _sum_up(counts, done, time.monotonic() - began, output if job else "")
    return code


def _paths(files: tuple[str, ...]) -> list[str]:
    """The files, patterns that the shell left alone resolved. Raises UsageError where there is none."""
    paths: list[str] = []
    for file in files or (STDIN,):
        if file != STDIN and not Path(file).exists():
            found = sorted(glob(file, recursive=True)) if has_magic(file) else []  # noqa: PTH207
            if not found:
                raise UsageError(f"there is no file {file}")
            paths += found
        else:
            paths.append(file)
    for path in paths:
        if Path(path).is_dir():
            raise UsageError(f"{path} is a folder: name its files, e.g. '{path}/*.jsonl'")
    return paths


def _stamp(path: str) -> list[Any]:
    """What shows that a file is the one of before."""
    if path == STDIN:
        return [path]
    status = Path(path).stat()
    return [path, status.st_size, status.st_mtime_ns]


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


def _sum_up(counts: Counts, done: int, seconds: float, output: str) -> None:
    failed = "".join(f", {count:,} {code}" for code, count in sorted(counts.codes.items()))
    line = f"streamer: {counts.written:,} rows in {seconds:,.1f} s ({counts.written / max(seconds, 1e-9):,.0f}/s)"
    line += f", {counts.failed:,} failed{failed}, {counts.cached:,} from a cache"
    click.echo(line, err=True)
    if output and counts.interrupted:
        total = done + counts.written
        click.echo(f"streamer: interrupted behind row {total:,}; the same command goes on from there", err=True)


def _show(rows: Rows, typed: bool) -> Any:
    """How far it is, on standard error: a live line where a person looks at it, else one every ten seconds."""
    console = Console(stderr=True)
    if typed:
        return nullcontext(lambda _: None)
    return _Bar(rows, console) if console.is_terminal else nullcontext(_Lines(rows))


def _left(share: float, seconds: float) -> str:
    if not 0.0 < share < 1.0:
        return ""
    left_s = int(seconds / share - seconds)
    return f"{share:.0%}, {left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} left"


class _Lines:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._began = self._said = time.monotonic()

    def __call__(self, counts: Counts) -> None:
        now = time.monotonic()
        if now - self._said < SAY_EVERY_S:
            return
        self._said = now
        rate = counts.written / (now - self._began)
        share = self._rows.read_bytes / self._rows.total_bytes if self._rows.total_bytes else 0.0
        left = _left(share, now - self._began)
        parts = [f"{counts.written:,} rows", f"{counts.failed:,} failed", f"{rate:,.0f}/s", *([left] if left else [])]
        click.echo(f"streamer: {', '.join(parts)}", err=True)


class _Bar:
    def __init__(self, rows: Rows, console: Console) -> None:
        self._rows = rows
        self._bar = Progress(
            TextColumn("{task.fields[written]:,} rows"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )

    def __enter__(self) -> Callable[[Counts], None]:
        self._bar.start()
        total = self._rows.total_bytes or None
        task = self._bar.add_task("infer", total=total, failed=0, rate="", left="", written=0)

        def show(counts: Counts) -> None:
            elapsed = self._bar.tasks[0].elapsed or 0.0
            share = self._rows.read_bytes / total if total else 0.0
            self._bar.update(
                task,
                completed=self._rows.read_bytes if total else 0,
                written=counts.written,
                failed=counts.failed,
                rate=f"{counts.written / elapsed:,.0f}/s" if elapsed else "",
                left=_left(share, elapsed),
            )

        return show

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
