"""Run the console: bind, serve until a signal, close."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence

import uvicorn

from streamer.config.load import Config
from streamer.console.access import Access
from streamer.console.app import Console, make_app
from streamer.console.desk import Desk
from streamer.console.feed import Feed
from streamer.console.front import Front
from streamer.console.history import History
from streamer.console.looks import Looks
from streamer.errors import ConfigurationError
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer


def serve(
    config: Config,
    access: Access,
    front: Front,
    metrics: Sequence[str],
    port: int,
    started: Callable[[str], None],
    *,
    prometheus_url: str = "",
    tracer: ToolTracer = NO_SPANS,
) -> None:
    """Serve until SIGINT or SIGTERM; `started` is told the page's address, `tracer` sends spans. Raises
    ConfigurationError when the address can't be bound."""
    host = front.host
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        listener = socket.create_server((bare, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "no such port"
        raise ConfigurationError(f"can't listen on {host}:{port}: {why}; choose another --port, 0 for any") from None
    server: uvicorn.Server
    looks = Looks(config, show_text=access.show_text)
    console = Console(
        config,
        access,
        front,
        Feed(config, metrics),
        looks,
        Desk(config, looks, History(config.kafka), tracer),
        stopping=lambda: server.should_exit,
        prometheus_url=prometheus_url,
        tracer=tracer,
    )
    settings = uvicorn.Config(
        make_app(console),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(settings)
    # uvicorn stops at these, and then raises them again for whoever had them before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    shown = f"[{bare}]" if family == socket.AF_INET6 else bare
    with listener:
        started(f"http://{shown}:{listener.getsockname()[1]}/")
        server.run(sockets=[listener])
