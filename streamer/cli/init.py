"""`streamer init`: a configuration for a model, from its files and a few answers."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from streamer.config.fields import PIPELINE_NAME
from streamer.config.load import load
from streamer.errors import ConfigurationError, ModelError, UsageError

if TYPE_CHECKING:
    from streamer.config.template import Template
    from streamer.inference.models.inspect import About

_DEFAULT = Path("streamer.toml")
_NAMES = (
    "a pipeline's name has letters without accents, digits, _ and -, 100 at most, and begins with a letter or a digit"
)
_FORMS = "a directory, package:NAME/SUBDIR, org/name@REVISION or python:MODULE:CLASS"


@click.command()
@click.option("--model", metavar="REF", help=f"The model: {_FORMS}.")
@click.option("--task", help="What the model does. Default: what its files say.")
@click.option("--input", "topic", metavar="TOPIC", help="The topic to read.")
@click.option("--output", metavar="TOPIC", help="The topic for results. Default: INPUT.NAME.")
@click.option("--name", help="The pipeline's name. Default: the model's.")
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Kafka. Default: localhost:9092.")
@click.option("--cache-url", metavar="URL", help="Redis, to share answers between replicas. Default: none.")
@click.option(
    "--allow-downloads",
    is_flag=True,
    help="Download a model of the hub if it is not on this machine, now and in a run.",
)
@click.option(
    "-o",
    "file",
    metavar="FILE",
    help="File to write.",
    type=click.Path(path_type=Path),
    default=_DEFAULT,
    show_default=True,
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def init(
    model: str | None,
    task: str | None,
    topic: str | None,
    output: str | None,
    name: str | None,
    bootstrap_servers: str | None,
    cache_url: str | None,
    allow_downloads: bool,
    file: Path,
    force: bool,
) -> None:
    """Write a configuration for a model. On a terminal it asks for what is not given.

    The model's files tell its task, labels and limits. The file is checked before it is written; the commands to try
    it are printed.
    """
    if file.exists() and not force:
        raise UsageError(f"{file} exists already: --force replaces it, -o writes another file")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"-o {file}: there is no folder {file.parent}; make it, or name another")
    if name is not None and not _is_name(name):
        raise UsageError(f"--name {name!r}: {_NAMES}")
    if cache_url and urlsplit(cache_url).password:
        raise UsageError(
            "--cache-url has a password, which would be in the file: leave it out, and name a file that holds the "
            "URL as cache.url_file"
        )
    asks = sys.stdin.isatty()
    if not asks and (missing := [flag for flag, value in (("--model", model), ("--input", topic)) if value is None]):
        raise UsageError(f"standard input is not a terminal, so nothing can be asked: give {' and '.join(missing)}")
    ask = _ask if asks else _take
    model, about, allow_downloads = _model(model, allow_downloads)
    _tell(about)
    task = task or _task(about, asks)
    name = ask(name, "Name of the pipeline", _name_of(about), _typed_name)
    topic = ask(topic, "Topic to read", "events")
    template = _template(
        about,
        model=_reference(model, about, file),
        name=name,
        task=task,
        input=topic,
        output=ask(output, "Topic for results", f"{topic}.{name}"),
        bootstrap_servers=ask(bootstrap_servers, "Kafka's bootstrap servers", "localhost:9092"),
        cache_url=ask(cache_url, "Redis, as redis://HOST:PORT/0, to share answers (empty: none)", ""),
        allow_downloads=allow_downloads and about.kind == "hub",
    )
    text = template.render()
    _check(text, file)
    with file.open("w" if force else "x", encoding="utf-8") as target:
        target.write(text)
    click.echo(_next(template, file))


def _take(given: str | None, _: str, default: str, __: Callable[[str], str] = str.strip) -> str:
    return default if given is None else given


def _ask(given: str | None, question: str, default: str, read: Callable[[str], str] = str.strip) -> str:
    """What is given, or typed: `read` makes a text of that, or raises click.UsageError, and it is asked for again."""
    if given is not None:
        return given
    return str(click.prompt(question, default=default, show_default=bool(default), value_proc=read, err=True))


def _is_name(name: str) -> bool:
    return re.fullmatch(PIPELINE_NAME, name) is not None


def _typed_name(typed: str) -> str:
    if not _is_name(name := typed.strip()):
        raise click.UsageError(_NAMES)
    return name


def _model(given: str | None, allow_downloads: bool) -> tuple[str, About, bool]:
    """The reference and what it leads to; one that was typed wrong is asked for again."""
    from streamer.app.fetch import fetch
    from streamer.inference.models.inspect import look
    from streamer.inference.models.reference import is_absent

    reference = given
    while True:
        if reference is None:
            reference = str(click.prompt(f"Model ({_FORMS})", err=True)).strip()
        try:
            if not allow_downloads and sys.stdin.isatty() and is_absent(reference):
                question = f"{reference} is not on this machine. Download it, now and where it runs?"
                allow_downloads = click.confirm(question, default=True, err=True)
            if allow_downloads:
                fetch(reference)
            about = look(reference)
            if about.failure:
                raise ModelError(about.failure)
            return reference, about, allow_downloads
        except ModelError as error:
            if given is not None:
                raise
            click.echo(f"streamer: {error}", err=True)
            reference = None


def _tell(about: About) -> None:
    parts = [about.architecture or about.place or about.name]
    parts += [f"{len(about.labels)} labels"] if about.labels else []
    parts += [f"{about.max_tokens} tokens at most"] if about.max_tokens else []
    click.echo(f"{about.name}: {', '.join(parts)}", err=True)
    for warning in about.warnings:
        click.echo(f"  {warning}", err=True)


def _task(about: About, asks: bool) -> str:
    """What the files say, or what is chosen among what they leave open."""
    if about.task.task:
        click.echo(f"  task {about.task.task}: {about.task.why}", err=True)
        return about.task.task
    from streamer.inference.tasks.options import OPTIONS

    tasks = about.task.tasks or tuple(OPTIONS)
    open_ = f"the files of {about.name} leave the task open ({about.task.why})"
    if not asks:
        raise UsageError(f"{open_}: give --task, one of {', '.join(tasks)}")
    click.echo(f"  {open_}", err=True)
    return str(click.prompt("Task", type=click.Choice(tasks), default=tasks[0], err=True))


def _name_of(about: About) -> str:
    last = re.split(r"[/:]", about.name)[-1]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_")[:100].lower() or "pipeline"


def _reference(model: str, about: About, file: Path) -> str:
    """As the file names the model: a directory below the file's folder from there, any other by its whole path."""
    if about.kind != "directory":
        return model
    place, folder = Path(about.place), file.absolute().parent.resolve()
    return place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place)


def _template(about: About, *, model: str, task: str, **answers: Any) -> Template:
    from streamer.config.template import Template
    from streamer.inference.backends.samples import sample_event
    from streamer.inference.models.checks import WINDOWED

    notes = {"directory": "relative to this file", "class": "importable from where streamer is started"}
    event = {"id": "1", **sample_event(task, mask_token=about.mask_token)}
    return Template(
        task=task,
        model=model,
        model_note="" if Path(model).is_absolute() else notes.get(about.kind, ""),
        event=json.dumps(event, ensure_ascii=False),
        labels=about.labels,
        max_tokens=about.max_tokens,
        windows=task in WINDOWED,
        **answers,
    )


def _check(text: str, file: Path) -> None:
    """Refuse what `config check` would refuse, by the name of the file that is to be. Raises ConfigurationError."""
    from streamer.app.workers import worker_plan
    from streamer.inference.models.checks import check
    from streamer.inference.models.presence import model_problem

    with _draft(file) as draft:
        draft.write(text)
        draft.flush()
        try:
            config = load(draft.name)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace(draft.name, str(file))) from None
    for name, pipeline in config.pipelines.items():
        for place, problem in check(worker_plan(pipeline, name)[1]):
            raise ConfigurationError(f"{file}: pipelines.{name}.{'.'.join(place)}: {problem}")
        if absent := model_problem(pipeline.model, downloads=pipeline.allow_downloads):
            raise ConfigurationError(f"{file}: pipelines.{name}.model: {absent}")


def _draft(file: Path) -> IO[str]:
    """A file beside the one that is to be, where relative paths mean the same. Raises OSError that names the latter."""
    try:
        return tempfile.NamedTemporaryFile("w", dir=file.absolute().parent, suffix=".toml", encoding="utf-8")
    except OSError as error:
        error.filename = str(file)
        raise


def _next(template: Template, file: Path) -> str:
    where = "" if file.absolute() == _DEFAULT.absolute() else f" --config {shlex.quote(str(file))}"
    local = template.bootstrap_servers == "localhost:9092"
    kafka = " (`streamer local up` starts a Kafka on this machine, if you have none)" if local else ""
    return "\n".join(
        [
            f"Wrote {file}. Next{kafka}:",
            "",
            f"  streamer topics create{where} --input-partitions 3",
            f"  echo {shlex.quote(template.event)} | streamer produce{where} {shlex.quote(template.input)}",
            f"  streamer run{where} --until-end && "
            f"streamer tail{where} {shlex.quote(template.output)} --from earliest --until-end",
        ]
    )
