"""`streamer console`: a web page for operators."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from streamer.cli.options import chosen_pipelines, configured, number
from streamer.config.load import Config
from streamer.errors import ExitCode, UsageError
from streamer.extras import require


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. Any but a loopback address needs a token.",
)
@number("--port", 8080, "The port to listen on; 0 takes any free one.", min=0, max=65535)
@click.option(
    "--allow-replay",
    is_flag=True,
    help="Let whoever has the token replay, edit and discard dead letters. Without it the console only reads.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with a token of 16 characters or more, or a line NAME:TOKEN for each operator, whom the audit then"
    " names."
    " Default: the variable STREAMER_CONSOLE_TOKEN.",
)
@click.option("--show-text", is_flag=True, help="Show the values of dead letters, to everybody who can see the page.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="A host name that the page answers to, besides --host."
)
@click.option(
    "--trust-proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy in front of the console, or a network of them: only their X-Forwarded-* headers are trusted.",
)
@click.option(
    "--root-path", default="", metavar="PATH", help="The path under which the proxy serves the console, e.g. /streamer."
)
@click.option(
    "--metrics",
    "urls",
    multiple=True,
    metavar="URL",
    help="A driver's /metrics; may be repeated. Default: where `streamer run` serves them on this machine.",
)
@click.option(
    "--prometheus-url",
    default="",
    metavar="URL",
    help="A link to Prometheus or a dashboard, for more than the last six hours. {pipeline} stands for the pipeline's"
    " name.",
)
@configured
def console(
    config: Config,
    host: str,
    port: int,
    allow_replay: bool,
    token_file: Path | None,
    show_text: bool,
    names: tuple[str, ...],
    proxies: tuple[str, ...],
    root_path: str,
    urls: tuple[str, ...],
    prometheus_url: str,
) -> None:
    """Serve a web page for operators: all pipelines, the worst first; dead letters by cause; who replayed what.

    It only reads, unless --allow-replay and a token let it replay, edit and discard. It speaks plain HTTP: beyond this
    machine, put a proxy with TLS in front of it, and name the proxy with --trust-proxy. Texts (--show-text) then need
    the token too.
    """
    from streamer.console.access import TOKEN_VARIABLE, make_access, read_tokens

    require("the console", "console")
    from streamer.app.tool_spans import tool_spans
    from streamer.console.front import make_front
    from streamer.console.serve import serve
    from streamer.telemetry.scrape import metrics_urls

    chosen_pipelines(config, ())
    metrics = metrics_urls(config, urls)
    if prometheus_url and not prometheus_url.startswith(("http://", "https://")):
        raise UsageError(f"--prometheus-url {prometheus_url}: write a URL, e.g. http://prometheus:9090/graph")
    tokens = read_tokens(token_file, os.environ.get(TOKEN_VARIABLE))
    access = make_access(
        host, allow_replay=allow_replay, show_text=show_text, tokens=tokens, proxied=bool(proxies or root_path)
    )
    front = make_front(host, names, root_path, proxies)

    def started(url: str) -> None:
        click.echo(f"the console is at {url} ({'may replay' if allow_replay else 'only reads'}); Ctrl-C ends it")

    with tool_spans(config, "console") as tracer:
        serve(config, access, front, metrics, port, started, prometheus_url=prometheus_url, tracer=tracer)
    # All is closed that can be. Leaving by the interpreter's end would run the clients' destructors, and those may wait
    # for a broker that is gone.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(ExitCode.DONE)
