"""`streamer local`: a Kafka and a Redis to try streamer with."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from streamer.local import background, docker
from streamer.local.background import PARTS, BackgroundStack, Part

_FOLLOW_POLL_S = 0.2


@click.group()
def local() -> None:
    """Start and stop a Kafka and a Redis on this machine: in Docker where it answers, otherwise as processes."""


@local.command()
@click.option("--kafka/--no-kafka", default=True, help="Start Kafka.", show_default=True)
@click.option("--redis/--no-redis", default=True, help="Start Redis.", show_default=True)
@click.option(
    "--brokers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many brokers to start; 3 for replicated topics.",
)
@click.option("--kafka-port", type=click.IntRange(1, 65535), help="Default: 9092 if free, else any free one.")
@click.option("--redis-port", type=click.IntRange(1, 65535), help="Default: 6379 if free, else any free one.")
@click.option("--json", "as_json", is_flag=True, help="Print what runs as JSON.")
def up(kafka: bool, redis: bool, brokers: int, kafka_port: int | None, redis_port: int | None, as_json: bool) -> None:
    """Start them and leave them running. Does nothing if they run."""
    wanted: dict[Part, bool] = {"kafka": kafka, "redis": redis}
    named: dict[Part, int | None] = {"kafka": kafka_port, "redis": redis_port}
    parts = {part for part in PARTS if wanted[part]}
    if not parts:
        raise click.UsageError("nothing to start: leave out --no-kafka or --no-redis")
    ports = {part: port for part in parts if (port := named[part])}
    if not as_json:
        click.echo("Starting (the first time fetches Kafka, some 45 MB) …", err=True)
    stack, started = background.up(parts, ports, brokers)
    if as_json:
        click.echo(json.dumps(_description(stack)))
        return
    click.echo("Started." if started else "Already running.")
    click.echo("Name them in streamer.toml:\n")
    if stack.bootstrap_servers:
        click.echo(f'  [kafka]\n  bootstrap_servers = "{stack.bootstrap_servers}"')
    if stack.redis_url:
        click.echo(f'  [cache]\n  url = "{stack.redis_url}"')
    click.echo("\nLogs: streamer local logs · Stop: streamer local down")


@local.command()
@click.option("--keep-data", is_flag=True, help="Leave topics and logs for the next `up`.")
def down(keep_data: bool) -> None:
    """Stop what `up` started, and remove its data."""
    ended = background.down(keep_data=keep_data)
    if ended is None:
        click.echo("Nothing to stop.")
    elif keep_data:
        click.echo(f"Stopped; the data is kept{f' in {ended.directory}' if ended.directory else ''}.")
    else:
        click.echo("Stopped; the data is removed.")


@local.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show what is running, and where."""
    description = _description(background.recorded())
    if as_json:
        click.echo(json.dumps(description))
        return
    for part in PARTS:
        about = description[part]
        processes = f"  pid {', '.join(map(str, about['pids']))}" if about["pids"] else ""
        click.echo(f"{part:6} {about['state']:9} {about['address'] or ''}{processes}")


@local.command()
@click.argument("part", type=click.Choice(PARTS), required=False)
@click.option("-f", "--follow", is_flag=True, help="Keep printing until interrupted, or until the stack is stopped.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many of the last lines to print."
)
def logs(part: Part | None, follow: bool, lines: int) -> None:
    """Print the logs of Kafka, of Redis, or of both."""
    stack = background.recorded()
    if stack is None:
        raise click.ClickException("nothing runs: start it with `streamer local up`")
    parts = [part] if part else [each for each in PARTS if each in stack.ports]
    if stack.engine == "docker":
        docker.compose_logs(list(parts), lines=lines, follow=follow)
        return
    _print_logs([path for each in parts for path in stack.log_paths(each)], lines=lines, follow=follow)


def _description(stack: BackgroundStack | None) -> dict[str, Any]:
    """What runs, for JSON. A part is running (it answers), silent (started, answers nothing) or absent."""
    if stack is None:
        absent: dict[str, Any] = {"state": "absent", "address": None, "pids": []}
        return {"engine": None, "directory": None, **dict.fromkeys(PARTS, absent)}
    addresses: dict[Part, str | None] = {"kafka": stack.bootstrap_servers, "redis": stack.redis_url}
    description: dict[str, Any] = {"engine": stack.engine, "directory": stack.directory or None}
    for part in PARTS:
        pids = stack.pids(part)
        state = "running" if stack.answers(part) else "silent" if pids else "absent"
        description[part] = {"state": state, "address": addresses[part], "pids": pids}
    return description


def _print_logs(paths: list[Path], *, lines: int, follow: bool) -> None:
    with ExitStack() as opened:
        files = [opened.enter_context(path.open("rb")) for path in paths if path.exists()]
        for file in files:
            if len(files) > 1:
                click.echo(f"==> {file.name} <==")
            last = file.read().splitlines(keepends=True)
            click.echo(b"".join(last[max(0, len(last) - lines) :]), nl=False)
        while follow and background.recorded() is not None:
            news = b"".join(file.read() for file in files)
            click.echo(news, nl=False)
            if not news:
                time.sleep(_FOLLOW_POLL_S)
