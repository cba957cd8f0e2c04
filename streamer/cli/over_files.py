"""What commands over files share: a configured pipeline or one made up for this call, and the files that it reads."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import click

from streamer.cli.options import adapter, allow_downloads, chosen_pipelines, loaded, model_of
from streamer.config.load import Config
from streamer.errors import UsageError
from streamer.files.rows import FORMATS, STDIN

ADHOC = "infer"

file_format = click.option(
    "--format",
    "format_",
    type=click.Choice(sorted(set(FORMATS.values()))),
    help="Read all files in this format. Default: by the suffix (before .gz or .zst), otherwise JSON lines.",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which pipeline is to run; `settings` make it up for this call, or change the configured one."""

    pipeline: str
    settings: list[str]
    config_path: str | None

    def config(self, *more: str) -> Config:
        """The configuration, with more settings. Raises ConfigurationError, and UsageError where there is no such
        pipeline."""
        config = loaded(
            self.config_path, [*self.settings, *more], check=model_of((self.pipeline,)), of_flags=self.pipeline
        )
        chosen_pipelines(config, (self.pipeline,))
        return config


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that name the pipeline, or the model of one made up, and hands over what they and those of
    `config_options` say as `asked`; logs go to standard error."""

    @functools.wraps(command)
    def wrapper(
        *args: Any,
        name: str | None,
        config_path: str | None,
        overrides: tuple[str, ...],
        verbose: bool,
        allow_downloads: bool,
        task: str | None,
        model: str | None,
        adapter: str | None,
        options: tuple[str, ...],
        dtype: str | None,
        **kwargs: Any,
    ) -> Any:
        logging.basicConfig(level="DEBUG" if verbose else "WARNING", format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("streamer.app.fetch").setLevel(logging.INFO)
        if name is None and (task is None or model is None):
            raise UsageError("name a configured pipeline with --pipeline, or give both --task and --model")
        pipeline = name or ADHOC
        fields = {"task": task, "model": model, "adapter": adapter, "dtype": dtype}
        fields["allow_downloads"] = "true" if allow_downloads else None
        if name is None:
            fields |= {"input": "lines", "output": f"lines.{ADHOC}"}
        settings = [*overrides, *(f"pipelines.{pipeline}.options.{option}" for option in options)]
        settings += [f"pipelines.{pipeline}.{field}={value}" for field, value in fields.items() if value is not None]
        return command(*args, asked=Asked(pipeline, settings, config_path), **kwargs)

    for option in (
        allow_downloads,
        click.option("--dtype", default=None, help="Compute in auto, float32, bfloat16 or float16."),
        click.option(
            "--option", "options", multiple=True, metavar="KEY=VALUE", help="Set an option of the task: top_k=3."
        ),
        adapter,
        click.option("--model", help="A model reference, e.g. a directory. Needed without --pipeline."),
        click.option("--task", help="What the model does, e.g. text-classification. Needed without --pipeline."),
        click.option("--pipeline", "name", metavar="NAME", help="Use this pipeline of the configuration."),
    ):
        wrapper = option(wrapper)
    return wrapper


def existing_files(files: tuple[str, ...], outputs: list[str]) -> list[str]:
    """The files, patterns that the shell left alone resolved. Raises UsageError where there is none, and for one that
    is named twice or also written."""
    paths: list[str] = []
    for file in files or (STDIN,):
        if file != STDIN and not Path(file).exists():
            found = sorted(glob(file, recursive=True)) if has_magic(file) else []  # noqa: PTH207
            if not found:
                raise UsageError(f"there is no file {file}")
            paths += found
        else:
            paths.append(file)
    written = {Path(path).resolve() for path in outputs}
    seen: set[Path] = set()
    for path in paths:
        if Path(path).is_dir():
            raise UsageError(f"{path} is a folder: name its files, e.g. '{path}/*.jsonl'")
        place = Path(path).resolve()
        if place in seen:
            raise UsageError(f"{path} is named twice: its rows would be answered twice")
        if place in written:
            raise UsageError(f"{path} would be read and written: name another file with -o and --errors")
        seen.add(place)
    return paths


def file_stamp(path: str) -> list[Any]:
    """What shows that a file has not changed."""
    if path == STDIN:
        return [path]
    status = Path(path).stat()
    return [path, status.st_size, status.st_mtime_ns]
