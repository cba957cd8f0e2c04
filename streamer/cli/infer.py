"""`streamer infer`: files in, files out."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from streamer.cli.options import config_options
from streamer.cli.over_files import Asked, existing_files, file_format, file_stamp, model_options
from streamer.config.pipeline import PipelineConfig
from streamer.config.shapes import shape_of
from streamer.core.events.shape import Shape
from streamer.errors import ExitCode, UsageError
from streamer.files.rows import STDIN, Fields, Rows, format_of, output_format


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@model_options
@file_format
@click.option("--text", is_flag=True, help="Read each line as a text. The same as --format text.")
@click.option("--text-field", default="", metavar="NAME", help="Take the text from this column or path: body.message.")
@click.option("--id-field", default="", metavar="NAME", help="Take the id from this column or path.")
@click.option("--keep", multiple=True, metavar="NAME", help="Copy this column to the result's metadata; '*' for all.")
@click.option(
    "-o", "--output", default="-", metavar="OUT", help="Write to this file: JSON lines, or .csv or .parquet by suffix."
)
@click.option("--errors", default=None, metavar="FILE", help="Write failed rows to this file, not among the results.")
@click.option("--restart", is_flag=True, help="Start over. OUT is replaced only when the new one is complete.")
@config_options
def infer(
    files: tuple[str, ...],
    asked: Asked,
    format_: Any,
    text: bool,
    text_field: str,
    id_field: str,
    keep: tuple[str, ...],
    output: str,
    errors: str | None,
    restart: bool,
) -> ExitCode:
    """Ask the model about each row of the FILEs, or of standard input.

    Rows are JSON events, lines of text, or rows of CSV or Parquet. Each row gives one line of output, in the same
    order: its result, or an error with its code. With -o OUT, the output appears when it is complete. If the run is
    killed or interrupted, the same command continues where it stopped. Exit code 4 means that some rows failed.
    """
    from streamer.cli.infer_progress import shown, summary
    from streamer.files.job import Job
    from streamer.files.sink import JobFiles

    config = asked.config()
    pipeline = config.pipelines[asked.pipeline]
    kind: Any = "text" if text else format_
    paths = existing_files(files, [path for path in (output, errors) if path and path != STDIN])
    stamps = [file_stamp(path) for path in paths]
    fields = Fields(text_field, id_field, keep)
    formats: set[str] = {kind or (format_of(path) or "jsonl") for path in paths}
    shape = None if fields.named else _shape(pipeline, formats)
    rows = Rows(paths, sys.stdin.buffer, kind, replace(fields, whole=shape is not None))
    rows.open()
    typed = STDIN in paths and sys.stdin.isatty()
    if typed:
        click.echo("streamer: reading lines from the terminal; end them with Ctrl-D", err=True)
    job = None
    if output == STDIN:
        if restart:
            raise UsageError("--restart needs -o OUT: what is written to standard output can't be continued")
        target = _stream(errors)
    else:
        job = Job(Path(output), Path(errors) if errors else None, restart, _conversion(output))
        if job.rows_done and STDIN in paths:
            raise UsageError(
                f"standard input can't be read again from row {job.rows_done + 1:,} on: --restart starts over"
            )
        identity = {
            "files": stamps,
            "format": kind,
            "fields": [text_field, id_field, list(keep)] if shape is None else [repr(shape)],
            "errors": bool(errors),
            "task": pipeline.task,
            "reference": _spelt_once(pipeline.model),
            "options": pipeline.options,
            "on_overflow": pipeline.on_overflow,
        }
        job.check(identity)
        if job.ended:
            click.echo(f"streamer: {output} is complete now; an earlier run had answered all rows", err=True)
            return ExitCode.SOME_FAILED if job.failed else ExitCode.DONE
        target = JobFiles(job, identity)
        if job.rows_done:
            click.echo(f"streamer: continuing after row {job.rows_done:,}", err=True)
    from streamer.app.infer import infer as run_infer  # and with it what an early end does without

    began = time.monotonic()
    done = job.rows_done if job else 0
    names = tuple(paths) if len(paths) > 1 else ()
    with nullcontext(lambda _: None) if typed else shown(rows, done) as progress:
        code, counts = run_infer(
            config, asked.pipeline, rows, target, done=done, files=names, shape=shape, progress=progress
        )
    for path, stamp in zip(paths, stamps, strict=True):
        if Path(path).exists() and file_stamp(path) != stamp:
            click.echo(f"streamer: {path} changed while it was read: the output has the rows that were read", err=True)
    if isinstance(target, JobFiles):
        if code in (ExitCode.DONE, ExitCode.SOME_FAILED):
            code = ExitCode.SOME_FAILED if target.end() else ExitCode.DONE
        else:
            target.close()
    if job is not None or sys.stderr.isatty():
        click.echo(summary(counts, began, time.monotonic()), err=True)
    if job is not None and counts.interrupted:
        total = done + counts.written
        click.echo(f"streamer: interrupted after row {total:,}; the same command continues from there", err=True)
    return code


def _shape(pipeline: PipelineConfig, formats: set[str]) -> Shape | None:
    """How the pipeline reads JSON of another shape, which rows have then; None for events, and for lines of text.
    Raises UsageError for files of both kinds."""
    shape = shape_of(pipeline)
    if shape is None or formats == {"text"}:
        return None
    if "text" in formats:
        raise UsageError("the pipeline has a text_field, which lines of text have not: give these files by themselves")
    return shape


def _conversion(output: str) -> Any:
    """What makes the table that the suffix asks for; None for lines. Raises UsageError where that can't be made."""
    from streamer.files.tables import arrow_for, to_csv, to_parquet

    if (kind := output_format(output)) == "parquet":
        arrow_for(Path(output))
    return {"csv": to_csv, "parquet": to_parquet}.get(kind or "")


def _stream(errors: str | None) -> Any:
    """Standard output, and a new file for errors where one is named."""
    from streamer.files.job import writable
    from streamer.files.sink import Stream

    if errors is None:
        return Stream(sys.stdout.buffer)
    writable(Path(errors))
    try:
        return Stream(sys.stdout.buffer, Path(errors).open("xb"))
    except FileExistsError:
        raise UsageError(f"{errors} already exists: name another file with --errors, or remove it") from None


def _spelt_once(model: str) -> str:
    """A directory's own path, however the reference names it: the same model is the same job."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model
