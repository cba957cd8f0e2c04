"""Options that several commands share."""

from __future__ import annotations

import difflib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from math import isfinite
from typing import Any

import click

from streamer.config.load import Config, Problem, load
from streamer.config.pipeline import PipelineConfig
from streamer.errors import ConfigurationError, UsageError

SAY_EVERY_S = 10.0
"""Between two lines of progress, where there is no terminal."""

_Command = Callable[..., Any]

allow_downloads = click.option(
    "--allow-downloads",
    is_flag=True,
    help="Download a model of the hub, org/name@REVISION, if it is not on this machine.",
)

adapter = click.option("--adapter", metavar="REF", help="Merge this LoRA adapter into the model, e.g. a directory.")


class NumberRange(click.FloatRange):
    """Click compares with the bounds, and so lets NaN through all of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Fails if it is none, or has no end."""
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def number(name: str, default: float, what: str, **limits: Any) -> Callable[[_Command], _Command]:
    """Adds an option that takes a number like its default, at least 1 unless the `limits` of click's range say
    otherwise."""
    kind = NumberRange if isinstance(default, float) else click.IntRange
    return click.option(name, type=kind(**{"min": 1, **limits}), default=default, show_default=True, help=what)


def config_options(command: _Command) -> _Command:
    """Adds --config, --set and --verbose, handed over as `config_path`, `overrides` and `verbose`."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Log everything, messages of the Kafka client included."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set a field: pipelines.NAME.workers=2. May be repeated.",
        ),
        click.option(
            "-c",
            "--config",
            "config_path",
            metavar="PATH",
            help="The configuration file. Default: ./streamer.toml if it exists.",
        ),
    ):
        command = option(command)
    return command


def configured(command: _Command) -> _Command:
    """Adds the options of `config_options` and hands over what they say as `config`; logs go to standard error."""

    @config_options
    @functools.wraps(command)
    def wrapper(*args: Any, config_path: str | None, overrides: tuple[str, ...], verbose: bool, **kwargs: Any) -> Any:
        log_to_stderr(verbose)
        return command(*args, config=loaded(config_path, overrides), **kwargs)

    return wrapper


def log_to_stderr(verbose: bool) -> None:
    """For commands that people look at."""
    level = logging.DEBUG if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


_Check = Callable[[Config], Iterable[Problem]]


def loaded(
    config_path: str | None, overrides: Iterable[str], *, check: _Check = lambda _: (), of_flags: str = ""
) -> Config:
    """The configuration from file, environment and flags, with what can be told of its models unloaded, and what else
    `check` finds. `of_flags` is a pipeline whose task, model, adapter, dtype and options have flags of their own, which
    messages then name. Raises ConfigurationError."""
    try:
        return load(config_path, os.environ, overrides, lambda config: chain(_check_models(config), check(config)))
    except ConfigurationError as error:
        if not of_flags:
            raise
        told = [replace(one, where=_flag(one.where, f"--set pipelines.{of_flags}.")) for one in error.refusals]
        raise ConfigurationError.of(told) from None


def _flag(where: str, prefix: str) -> str:
    """`--set pipelines.NAME.model` as `--model`."""
    field = where.removeprefix(prefix)
    if field in ("task", "model", "adapter", "dtype"):
        return f"--{field}"
    return f"--option {field.removeprefix('options.')}" if field != where and field.startswith("options.") else where


def _check_models(config: Config) -> Iterator[Problem]:
    from streamer.inference.models.checks import check
    from streamer.inference.spec import WorkerSpec

    for name, pipeline in config.pipelines.items():
        spec = WorkerSpec(
            name,
            pipeline.task,
            pipeline.model,
            adapter=pipeline.adapter,
            backend=pipeline.backend,
            compile=pipeline.compile,
            device=pipeline.device,
            on_overflow=pipeline.on_overflow,
            options=pipeline.options,
        )
        for place, text in check(spec):
            yield ("pipelines", name, *place), text


def model_of(names: tuple[str, ...]) -> _Check:
    """A check for `loaded`: whether the files of the one pipeline that is to run are those of a model. Else a worker
    would say it, seconds later. Of several pipelines each process looks at its own."""

    def check(config: Config) -> Iterator[Problem]:
        from streamer.inference.models.adapter import adapter_problem
        from streamer.inference.models.presence import files_problem

        chosen = [name for name in names or config.pipelines if name in config.pipelines]
        if len(chosen) == 1:
            pipeline = config.pipelines[chosen[0]]
            may = pipeline.allow_downloads
            if text := files_problem(pipeline.model, downloads=may):
                yield ("pipelines", chosen[0], "model"), text
            elif text := adapter_problem(pipeline.adapter, pipeline.model, pipeline.task, downloads=may):
                yield ("pipelines", chosen[0], "adapter"), text

    return check


def chosen_pipelines(config: Config, names: tuple[str, ...]) -> list[str]:
    """The pipelines named, all when none is. Raises UsageError for a name that is not configured."""
    for name in names:
        if name not in config.pipelines:
            near = difflib.get_close_matches(name, config.pipelines, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(config.pipelines) or 'none'}"
            raise UsageError(f"no pipeline {name} in the configuration; {meant}")
    if not config.pipelines:
        raise UsageError("the configuration has no pipeline; `streamer init` writes one, or name a file with --config")
    return list(names or config.pipelines)


@contextmanager
def meaning(config: Config, name: str, fields: Sequence[str]) -> Iterator[None]:
    """Around the look-up of the topic `name`: what fails also says what is probably meant, where `name` is a pipeline,
    whose topics these fields name, or is nearly a pipeline or one of these topics."""
    try:
        yield
    except ConfigurationError as error:
        topics = {topic: None for one in config.pipelines.values() for topic in _topics(one, fields)}
        if name in topics:
            raise
        if name in config.pipelines:
            own = " and ".join(_topics(config.pipelines[name], fields))
            raise ConfigurationError(f"{error}. {name} is a pipeline: its topics are {own}") from None
        near = difflib.get_close_matches(name, [*config.pipelines, *topics], n=1)
        if not near:
            raise
        raise ConfigurationError(f"{error}. Did you mean {near[0]}?") from None


def _topics(pipeline: PipelineConfig, fields: Sequence[str]) -> list[str]:
    named = [getattr(pipeline, field) for field in fields]
    return [topic for one in named for topic in ([one] if isinstance(one, str) else one)]
