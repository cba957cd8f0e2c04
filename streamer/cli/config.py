"""`streamer config`: check the configuration, or show it without its secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from streamer.cli.options import configured
from streamer.config.load import Config, redacted


@click.group()
def config() -> None:
    """Check the configuration, or show it without its secrets."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@configured
def check(config: Config, as_json: bool) -> None:
    """Load it, check each field and what they must hold together. Asks no server anything."""
    from streamer.kafka.clients import check_properties

    check_properties(config.kafka)
    if as_json:
        click.echo(json.dumps({"ok": True, "pipelines": sorted(config.pipelines)}))
        return
    for name, pipeline in config.pipelines.items():
        click.echo(f"{name}: {', '.join(pipeline.input)} → {pipeline.task} → {pipeline.output}")
        click.echo(f"  model {pipeline.model}, dead letters {pipeline.dead_letter}, group {pipeline.group}")
    click.echo(f"OK: {len(config.pipelines)} pipeline(s), Kafka at {config.kafka.bootstrap_servers}")


@config.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of TOML.")
@configured
def show(config: Config, as_json: bool) -> None:
    """Print what file, environment and flags come to, defaults included and secrets hidden."""
    shown = redacted(config)
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False) if as_json else "\n".join(toml_lines(shown)))


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
