"""`streamer health run`: the Faust app that folds reports and feedback."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click

from streamer.cli.ending import told
from streamer.cli.options import config_options, loaded
from streamer.cli.stop_event import stop_event
from streamer.errors import ConfigurationError, ExitCode
from streamer.extras import require
from streamer.stopping import Stopping

if TYPE_CHECKING:
    from streamer.health.host import Host


@click.command()
@config_options
def run(config_path: str | None, overrides: tuple[str, ...], verbose: bool) -> None:
    """Watch the models of all pipelines that write reports.

    Reads the reports of all pipelines, sums them into windows, evaluates the rules, and writes both to the topic that
    health.topic names. Pages are at health.http: /healthz, /windows, /states, /drift, /feedback, /quality,
    /metrics.

    No pipeline depends on it, and it may be killed at any time: it continues where it was. Several may run: each sees
    everything. SIGTERM or Ctrl-C ends it.
    """
    stopping = Stopping()
    from streamer.telemetry.logs import configure, last_words

    config = loaded(config_path, overrides)
    if not config.telemetry.reports:
        raise ConfigurationError('telemetry.reports is "": there is nothing to watch; name the topic of the reports')
    require("the health app", "health")
    from streamer.app.tool_spans import tool_spans
    from streamer.health.host import Host

    configure(config.telemetry.log_format, "debug" if verbose else config.telemetry.log_level)
    try:
        with tool_spans(config, "health") as tracer:
            host = Host(config, tracer)
            host.prepare()
            asyncio.run(_until_stopped(host, stopping))
        code = int(ExitCode.DONE)
    except Exception as error:
        code = told(error)
    # The clients' destructors may wait for a broker that is gone.
    last_words()
    os._exit(code)


async def _until_stopped(host: Host, stopping: Stopping) -> None:
    await host.run(stop_event(stopping))
