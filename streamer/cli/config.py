"""`streamer config`: check the configuration, or show it without its secrets."""

from __future__ import annotations

import difflib
import json
import os
import textwrap
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from streamer.cli.options import config_options, loaded, log_to_stderr
from streamer.config.load import redacted
from streamer.errors import ConfigurationError, ExitCode, Refusal, UsageError


@click.group()
def config() -> None:
    """Check the configuration, or show it without its secrets."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, problems included.")
@config_options
def check(config_path: str | None, overrides: tuple[str, ...], verbose: bool, as_json: bool) -> ExitCode:
    """Check each field, how fields fit together, and what they need of this machine: models, classes, ports, GPUs.

    Asks no server anything and loads no model; `streamer doctor` does both. Exits 3 when something is wrong, and lists
    all of it.
    """
    from streamer.app.workers import plans_of
    from streamer.ops.premises import memory_remarks, problems, remarks

    log_to_stderr(verbose)
    try:
        config = loaded(config_path, overrides, check=problems)
    except ConfigurationError as error:
        if not as_json:
            raise
        click.echo(_json({"ok": False, "problems": [_told(refusal) for refusal in error.refusals]}))
        return error.exit_code
    notes = [*remarks(config, os.environ), *memory_remarks(config, plans_of(config, list(config.pipelines)))]
    if as_json:
        warnings = [_told(note) for note in notes]
        click.echo(_json({"ok": True, "pipelines": sorted(config.pipelines), "warnings": warnings}))
        return ExitCode.DONE
    for name, pipeline in config.pipelines.items():
        click.echo(f"{name}: {', '.join(pipeline.input)} → {pipeline.task} → {pipeline.output}")
        members = {0: ", members as needed", 1: ""}.get(pipeline.members, f", {pipeline.members} members")
        adapter = f" with adapter {pipeline.adapter}" if pipeline.adapter else ""
        click.echo(
            f"  model {pipeline.model}{adapter}, dead letters {pipeline.dead_letter}, group {pipeline.group}{members}"
        )
    for note in notes:
        click.echo(f"warning: {note}")
    count = len(config.pipelines)
    click.echo(f"OK: {count} pipeline{'s' if count != 1 else ''}, Kafka at {config.kafka.bootstrap_servers}")
    return ExitCode.DONE


def _told(refusal: Refusal) -> dict[str, str]:
    told = {"where": refusal.where, "problem": refusal.problem}
    return told | {"fix": refusal.fix} if refusal.fix else told


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of TOML.")
@click.option(
    "--options", "task", is_flag=False, flag_value="", metavar="[TASK]", help="Show the options of a task instead."
)
@click.option(
    "--environment", is_flag=True, help="Show the environment variable of each field that one can set instead."
)
@config_options
def show(
    config_path: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
    as_json: bool,
    task: str | None,
    environment: bool,
) -> None:
    """Print the configuration that file, environment and flags make, defaults included and secrets hidden.

    Variables of OpenTelemetry (OTEL_…) that are set and read stand at the end, as comments.
    """
    if task is not None:
        _show_options(task, as_json)
        return
    log_to_stderr(verbose)
    if environment:
        from streamer.config.reference import settable

        rows = settable(loaded(config_path, overrides))
        if as_json:
            click.echo(_json({field.variable: field.key for field in rows}))
        else:
            width = max(len(field.variable) for field in rows)
            click.echo("\n".join(f"{field.variable:<{width}}  {field.key}" for field in rows))
        return
    from streamer.config.otel import shown as shown_variables

    shown, variables = redacted(loaded(config_path, overrides)), shown_variables(os.environ)
    if as_json:
        click.echo(_json(shown | ({"environment": variables} if variables else {}), indent=2))
        return
    click.echo("\n".join(toml_lines(shown)))
    if variables:
        click.echo("\n# Of the environment, read too:")
        click.echo("\n".join(f"# {name}={value}" for name, value in variables.items()))


def _show_options(task: str, as_json: bool) -> None:
    """Print the options of a task. Raises UsageError naming the tasks where there is no such one."""
    from streamer.inference.tasks.option_values import options_of
    from streamer.inference.tasks.options import OPTIONS

    if task not in OPTIONS:
        near = difflib.get_close_matches(task, OPTIONS, n=1)
        said = f"there is no task {task}" if task else "name a task"
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{said}; {meant}there are {', '.join(OPTIONS)}, and a python: class has options of its own")
    options = options_of(task)
    if as_json:
        found = [
            {"name": one.name, "type": one.kind, "default": one.default, "description": one.about} for one in options
        ]
        click.echo(_json({"task": task, "options": found}, indent=2))
        return
    click.echo(f"[pipelines.NAME.options] of task {task}:")
    for one in options:
        default = "" if one.default is None else f" Default: {_value(msgspec.to_builtins(one.default))}."
        click.echo(f"\n{click.style(one.name, bold=True)}: {one.kind}.{default}")
        click.echo(textwrap.fill(one.about, 100, initial_indent="    ", subsequent_indent="    "))


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)


def toml_lines(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """A tree of tables as TOML, each table's own values before the tables in it."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    if path and (len(inner) < len(table) or not table):
        yield f"[{'.'.join(_key(part) for part in path)}]"
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        yield from toml_lines(value, (*path, key))


def _key(key: str) -> str:
    """A bare key where TOML allows one, else a quoted one."""
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    """JSON's strings, numbers and booleans are TOML's too; tables in lists are written inline."""
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
