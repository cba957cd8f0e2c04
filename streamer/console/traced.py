"""Spans of requests: of each that does something, and of one that only reads where its client traces it."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.core.headers import TRACEPARENT
from streamer.core.traceparent import parse
from streamer.telemetry.tool_tracer import OpenSpan, ToolTracer

_SPAN: Final = "streamer.span"
_READING: Final = ("GET", "HEAD", "OPTIONS")
_UNTOLD: Final = ("/api/live", "/static/")
"""A stream that never ends, and files."""


def span_of(request: Request) -> OpenSpan | None:
    """The span of this request, where it has one."""
    found = request.scope.get(_SPAN)
    return found if isinstance(found, OpenSpan) else None


class Traced:
    """Begins a span for a request. It names the one of the `routes`, never the path or the query, which hold keys and
    ids."""

    def __init__(self, app: ASGIApp, tracer: ToolTracer, routes: Iterable[BaseRoute]) -> None:
        self._app, self._tracer = app, tracer
        self._paths: dict[object, str] = {each.endpoint: each.path for each in routes if isinstance(each, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get(TRACEPARENT, "") if scope["type"] == "http" else ""
        parent = parse(given.encode()) if given else None
        if scope["type"] != "http" or str(scope["path"]).startswith(_UNTOLD):
            await self._app(scope, receive, send)
            return
        if scope["method"] in _READING and not (parent and parent.sampled):
            await self._app(scope, receive, send)
            return
        method = str(scope["method"]) if scope["method"] in (*_READING, "POST") else "_OTHER"
        with self._tracer.begin(
            method, {"http.request.method": method}, kind="server", parent=parent, remote=True
        ) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = int(message["status"])
                    span.attributes["http.response.status_code"] = status
                    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        span.error = str(status)
                await send(message)

            scope[_SPAN] = span
            try:
                await self._app(scope, receive, watched)
            finally:
                if route := self._paths.get(scope.get("endpoint"), ""):
                    span.name = f"{method} {route}"
                    span.attributes["http.route"] = route
