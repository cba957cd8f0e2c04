"""Options that several commands share."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import click

from streamer.config import Config, load
from streamer.errors import UsageError

_Command = Callable[..., Any]


def config_options(command: _Command) -> _Command:
    """Adds --config, --set and --verbose, handed over as `config_path`, `overrides` and `verbose`."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Log everything, the Kafka client's words included."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="E.g. pipelines.NAME.workers=2."),
        click.option("-c", "--config", "config_path", metavar="PATH", help="Default: ./streamer.toml if it is there."),
    ):
        command = option(command)
    return command


def configured(command: _Command) -> _Command:
    """Adds the options of `config_options` and hands over what they say as `config`; logs go to standard error."""

    @config_options
    @functools.wraps(command)
    def wrapper(*args: Any, config_path: str | None, overrides: tuple[str, ...], verbose: bool, **kwargs: Any) -> Any:
        level = logging.DEBUG if verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        return command(*args, config=load(config_path, os.environ, overrides), **kwargs)

    return wrapper


def chosen_pipelines(config: Config, names: tuple[str, ...]) -> list[str]:
    """The pipelines named, all when none is. Raises UsageError for a name that is not configured."""
    for name in names:
        if name not in config.pipelines:
            known = ", ".join(config.pipelines) or "none"
            raise UsageError(f"no pipeline {name} in the configuration; there are: {known}")
    if not config.pipelines:
        raise UsageError("the configuration has no pipeline; add [pipelines.NAME], or name a file with --config")
    return list(names or config.pipelines)
