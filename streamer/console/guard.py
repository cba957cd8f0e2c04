"""The guard before the routes: what it refuses whoever asks, and what every answer bears."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.console.access import HEADERS
from streamer.console.bugs import named
from streamer.console.front import Front

_OURS: Final = ("same-origin", "none")  # Sec-Fetch-Site: our page, or an address that was typed

_log = logging.getLogger(__name__)


class Guard:
    """Refuses foreign Host headers and requests that other sites' pages make, adds the security headers, and answers
    for what went wrong unexpectedly."""

    def __init__(self, app: ASGIApp, front: Front) -> None:
        self._app, self._front = app, front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal: Response | None = None
        asked, path = str(scope["path"]), self._front.path(scope)
        scope = {**scope, "path": path or "/", "raw_path": (path or "/").encode(), "root_path": ""}
        if not self._front.knows(scope):
            why = "the Host header names another machine; if it is this one's name, start the console with --name"
            refusal = error_answer(HTTPStatus.MISDIRECTED_REQUEST, why)
        elif path is None:
            refusal = RedirectResponse(f"{asked.rpartition('/')[2]}/")
        elif path.startswith("/api/") and Headers(scope=scope).get("sec-fetch-site", "none") not in _OURS:
            refusal = error_answer(HTTPStatus.FORBIDDEN, "another site's page may not ask this")
        began = False

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS:
                    answer[name] = value
                answer.setdefault("cache-control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        try:
            await (refusal or self._app)(scope, receive, guarded)
        except Exception as error:
            _log.error("a request failed: %s", named(error))
            if began:
                raise ConnectionAbortedError from None
            await error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"a bug in streamer: {named(error)}")(
                scope, receive, guarded
            )


def json_answer(document: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A document."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def error_answer(status: HTTPStatus, error: str) -> Response:
    """What went wrong, for people."""
    return json_answer({"error": error}, status)
