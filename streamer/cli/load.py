"""`streamer load`: files into a topic, each row once."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.options import SAY_EVERY_S, NumberRange, configured, meaning
from streamer.cli.over_files import existing_files, file_format
from streamer.config.load import Config
from streamer.config.shapes import shape_of
from streamer.core.events.shape import Shape
from streamer.errors import ExitCode, UsageError
from streamer.files.row import Fields
from streamer.files.rows import STDIN, Rows, format_of

if TYPE_CHECKING:
    from streamer.ops.load import Load

_NO_LIMIT_BYTES = 1 << 40


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.argument("target", metavar="TOPIC|PIPELINE")
@file_format
@click.option(
    "--text-field", default="", metavar="NAME", help="The column of the text, or a path such as body.message."
)
@click.option("--id-field", default="", metavar="NAME", help="The column or path of the id.")
@click.option(
    "--keep", multiple=True, metavar="NAME", help="A column that goes into the event's metadata; '*' for all."
)
@click.option("--key-field", default="", metavar="NAME", help="The column or path of the record's key.")
@click.option(
    "--whole",
    is_flag=True,
    help="Write rows as they are, as JSON objects, not as events. Default for a topic whose pipeline has a text_field.",
)
@click.option(
    "--errors",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write bad rows to this file, and load the rest.",
)
@click.option("--rate", type=NumberRange(0, min_open=True), help="Rows a second. Default: as fast as possible.")
@click.option(
    "--job",
    metavar="NAME",
    help="The job's name; the same name continues it. Default: made from the files' paths.",
)
@click.option("--restart", is_flag=True, help="Load all rows again, as new records.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@configured
def load(
    config: Config,
    files: tuple[str, ...],
    target: str,
    format_: Any,
    text_field: str,
    id_field: str,
    keep: tuple[str, ...],
    key_field: str,
    whole: bool,
    errors: Path | None,
    rate: float | None,
    job: str | None,
    restart: bool,
    as_json: bool,
) -> ExitCode:
    """Write each row of the FILEs to a topic, or to the input topic of a pipeline.

    Rows are JSON events, texts, or rows of CSV or Parquet. They are written in transactions, together with the position
    in the files, so read_committed readers see each row once. After a kill or an interrupt, the same command continues.
    A row that is not a valid event ends the load with exit code 4, unless --errors FILE takes such rows.
    """
    from streamer.kafka.group_copier import Groups, LoadCopier
    from streamer.kafka.topics import connect, require
    from streamer.ops.load import Load, Maker, job_name

    topic, shapes = _target(config, target)
    if any(topic in one.input and one.input_format != "json" for one in config.pipelines.values()):
        raise UsageError(
            f"{topic} is read in a format of the schema registry (input_format), and load writes JSON: have a producer"
            " with the registry's serializer write it, or run the model over the files with `streamer infer --pipeline`"
        )
    fields = Fields(text_field, id_field, keep, whole=True)
    if whole and fields.named:
        raise UsageError("--whole writes rows as they are: leave out --text-field, --id-field and --keep")
    paths = existing_files(files, [str(errors)] if errors else [])
    if STDIN in paths:
        raise UsageError("standard input can't be read again: name files, or use `streamer produce`")
    if target not in (*config.pipelines, *_inputs(config)) and Path(target).is_file():
        raise UsageError(f"{target} is a file: name the topic, or the pipeline, as the last argument")
    with meaning(config, target, ("input",)):
        info = require(connect(config.kafka), config.kafka, topic)
    if "compact" in (info.cleanup_policy or "") and not key_field:
        raise UsageError(f"{topic} is compacted and takes no record without a key: name one with --key-field")
    limit = info.max_message_bytes or _NO_LIMIT_BYTES
    if fields.named and shapes and None not in shapes:
        raise UsageError(
            f"{topic} is read as JSON of another shape (text_field), not as events: leave out --text-field, --id-field"
            " and --keep, and rows are written as they are"
        )
    whole = whole or (any(shapes) and not fields.named)
    kinds = [format_ or format_of(path) or "jsonl" for path in paths]
    events = not whole and (fields.named or not {"csv", "parquet"}.isdisjoint(kinds))
    if events and not text_field:
        fields = replace(fields, text="text")
    work = Load(
        paths,
        kinds,
        Rows(paths, sys.stdin.buffer, format_, fields),
        Maker(topic, replace(fields, whole=False), events, key_field, shapes or (() if whole else (None,)), limit),
        json.dumps([text_field, id_field, keep, key_field, whole, format_]),
        errors,
        rate,
    )
    group, began = f"streamer.load.{topic}.{job or job_name(paths)}", time.monotonic()
    _stop_gracefully(work)
    with closing(work), closing(LoadCopier(config.kafka, group, min(limit, 1 << 30))) as copier:
        mark = Groups(config.kafka).committed(group, (topic, 0))
        if restart and errors:
            errors.unlink(missing_ok=True)
        work.begin((0, "") if restart else mark)
        if work.before:
            click.echo(f"streamer: continuing after row {work.before:,}", err=True)
        complete = False
        try:
            with _shown(work) as progress:
                work.run(copier, progress, (topic, 0))
            complete = not work.stop.is_set()
        finally:
            _sum_up(work, topic, time.monotonic() - began, complete=complete, as_json=as_json)
    if work.stop.is_set():
        click.echo("streamer: interrupted; the same command continues from there", err=True)
        return ExitCode.SECOND_SIGNAL
    return ExitCode.SOME_FAILED if work.failed else ExitCode.DONE


def _target(config: Config, name: str) -> tuple[str, tuple[Shape | None, ...]]:
    """The topic, and the shapes in which pipelines of the configuration read it. Raises UsageError where the name says
    not which topic."""
    readers = {topic: [one for one in config.pipelines.values() if topic in one.input] for topic in _inputs(config)}
    pipeline = config.pipelines.get(name)
    if pipeline is not None and name not in pipeline.input:
        if name in readers:
            raise UsageError(f"{name} is a pipeline, and the input of another: rename one, or name another topic")
        if len(pipeline.input) > 1:
            raise UsageError(f"pipeline {name} reads several topics; name one: {', '.join(pipeline.input)}")
        (name,) = pipeline.input
    return name, tuple(dict.fromkeys(shape_of(reader) for reader in readers.get(name, ())))


def _inputs(config: Config) -> set[str]:
    return {topic for pipeline in config.pipelines.values() for topic in pipeline.input}


def _stop_gracefully(work: Load) -> None:
    """The first signal ends the load behind the chunk that is under way, the second one at once."""

    def on_signal(number: int, _: FrameType | None) -> None:
        work.stop.set()
        signal.signal(number, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)


@contextmanager
def _shown(work: Load) -> Iterator[Callable[[Load], None]]:
    """How far it is, on standard error: a live line where a person looks at it, else one every ten seconds."""
    began = said = time.monotonic()

    def words() -> str:
        total_bytes = work.source.total_bytes
        share = f", {work.source.read_bytes / total_bytes:.0%} of the files" if total_bytes else ""
        rate = work.written / max(time.monotonic() - began, 1e-9)
        return f"{work.written:,} rows loaded, {rate:,.0f}/s, {work.failed:,} failed{share}"

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.status import Status

        with Status("", console=Console(stderr=True)) as line:
            yield lambda _: line.update(words())
        return

    def say(_: Load) -> None:
        nonlocal said
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            click.echo(f"streamer: {words()}", err=True)

    yield say


def _sum_up(work: Load, topic: str, seconds: float, *, complete: bool, as_json: bool) -> None:
    if as_json:
        counts = {"topic": topic, "loaded": work.written, "rows": work.rows, "before": work.before}
        click.echo(json.dumps({**counts, "failed": dict(work.codes), "empty": work.empty}))
        return
    rate = work.written / max(seconds, 1e-9)
    parts = [f"{topic}: {work.written:,} loaded in {seconds:,.1f} s ({rate:,.0f}/s)"]
    parts += [f"{count:,} {code}" for code, count in sorted(work.codes.items())]
    if work.empty:
        parts.append(f"{work.empty:,} empty lines left out")
    if complete and not work.written and work.before:
        parts.append("all rows were loaded before: --restart loads them again, as new records")
    click.echo(f"streamer: {', '.join(parts)}", err=True)
