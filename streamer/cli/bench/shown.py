"""What the benchmarks' commands share: where they run, how far they are, and how their figures are printed."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.options import number
from streamer.extras import require

if TYPE_CHECKING:
    from streamer.bench.harness.figures import Section

WIDTH = 160  # of tables where there is no terminal
_Command = Callable[..., Any]
_Needs = Callable[[dict[str, Any]], bool]


def rounds(default: int = 3, what: str = "How many interleaved rounds to run.") -> Callable[[_Command], _Command]:
    """Adds --rounds."""
    return number("--rounds", default, what)


def printed(command: _Command) -> _Command:
    """Adds --json, and prints the sections that the command returns."""

    @click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
    @functools.wraps(command)
    def wrapper(*args: Any, as_json: bool, **given: Any) -> None:
        show(command(*args, **given), as_json)

    return wrapper


def on_kafka(redis: _Needs = lambda _: False, minilm: _Needs = lambda _: False) -> Callable[[_Command], _Command]:
    """Adds where to run, hands over an open `Bench` first, and prints the sections that the command returns. `redis`
    and `minilm` tell of the command's options whether it needs a Redis, or the demo's model and what runs it."""

    def decorate(command: _Command) -> _Command:
        @click.option(
            "--bootstrap-servers", default="", metavar="HOST:PORT", help="Use this Kafka. Default: start one."
        )
        @click.option("--redis", "redis_url", default="", metavar="URL", help="Use this Redis. Default: start one.")
        @printed
        @functools.wraps(command)
        def wrapper(bootstrap_servers: str, redis_url: str, **given: Any) -> list[Section]:
            from streamer.bench.harness.bench import opened

            if minilm(given):
                require("this benchmark", "inference", "demo")
            with opened(bootstrap_servers, redis_url, redis=redis(given)) as place:
                found: list[Section] = command(place, **given)
                return found

        return wrapper

    return decorate


def progress(what: str) -> None:
    """Say how far it is, on standard error."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{what} …", nl=False, err=True)
    else:
        click.echo(what, err=True)


def end_progress() -> None:
    """Clear the line."""
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)


def show(sections: Sequence[Section], as_json: bool) -> None:
    """As tables for people, or as a JSON document."""
    from rich.console import Console
    from rich.table import Table

    from streamer.bench.harness.figures import document

    end_progress()
    found = document(sections)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    host = found["host"]
    load = ", ".join(map(str, host["load_average"]))
    console.print(
        f"{host['cpu']}, {host['cores']} cores, Python {host['python']}, load average {load}", highlight=False
    )
    for section in sections:
        names = list(dict.fromkeys(name for figure in section.figures for name in figure.columns))
        table = Table(
            title=section.title, title_justify="left", caption="\n".join(section.notes), caption_justify="left"
        )
        table.add_column("")
        judged = ("rounds", "target", "verdict") if any(each.values or each.target for each in section.figures) else ()
        for heading in ("value", *judged, *names):
            table.add_column(heading, justify="right")
        for figure in section.figures:
            spread = f"{min(figure.values):.2f}-{max(figure.values):.2f}" if figure.values else ""
            verdict = "" if figure.met is None else "[green]met[/]" if figure.met else "[red]missed[/]"
            table.add_row(
                figure.name,
                f"{_number(figure.value)} {figure.unit}",
                *((spread, str(figure.target or ""), verdict) if judged else ()),
                *(_number(figure.columns[name]) if name in figure.columns else "" for name in names),
            )
        console.print(table)


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
