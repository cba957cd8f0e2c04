"""The web application: its routes. Nothing but /api/replay/execute writes anything in Kafka;
that, and the dry run that it goes by, ask for the token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from streamer import __version__
from streamer.config.load import Config
from streamer.console.access import Access
from streamer.console.actions import BusyError, Desk, Wanted
from streamer.console.feed import Feed
from streamer.console.front import Front
from streamer.console.guard import Guard, error_answer, json_answer
from streamer.core.deadletters.letter import Place
from streamer.errors import ConfigurationError, DependencyError, StreamerError, UsageError
from streamer.ops.dlq.claims import RunningError

STATIC: Final = Path(__file__).parent / "static"
TICK_S: Final = 1.0
AGAIN_MS: Final = 5_000  # reports that come late change points that were sent: these are sent again
MAX_BODY_BYTES: Final = 64_000
MAX_STREAMS: Final = 100
_STREAM: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}  # a proxy must not collect events
WRONG_TOKEN_S: Final = 0.5

_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_STATUS: Mapping[type[StreamerError], HTTPStatus] = {
    UsageError: HTTPStatus.BAD_REQUEST,
    BusyError: HTTPStatus.CONFLICT,
    RunningError: HTTPStatus.CONFLICT,
    ConfigurationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    DependencyError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class _Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """What to execute. A job's name is not enough: another dry run may have it, too."""

    digest: str
    job: str = ""


class _RefusalError(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: HTTPStatus, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


@dataclass(frozen=True, slots=True)
class Console:
    """What the routes work with. `stopping` tells streams when to end, `streams` is how many there are."""

    config: Config
    access: Access
    front: Front
    feed: Feed
    desk: Desk
    stopping: Callable[[], bool]
    streams: list[None] = field(default_factory=list)

    async def page(self, request: Request) -> Response:
        """The page; all that it shows it asks for."""
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def about(self, request: Request) -> Response:
        """What this console is and allows; the one answer that never asks for the token."""
        access = self.access
        return json_answer(
            {
                "version": __version__,
                "replay": access.allow_replay,
                "token": bool(access.token_names),
                "private": access.private,
                "shows_text": access.show_text,
            }
        )

    async def live(self, request: Request) -> Response:
        """Server-sent events, one a second: the state of everything, with the points since the last one. The page opens
        one a browser."""
        await self._may_read(request)
        if len(self.streams) >= MAX_STREAMS:
            why = f"{MAX_STREAMS} browsers follow this console: close one, or start another console"
            raise _RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, why)
        return StreamingResponse(self._ticks(), media_type="text/event-stream", headers=_STREAM)

    async def now(self, request: Request) -> Response:
        """The same once, with the points from `since` on, in ms."""
        await self._may_read(request)
        since = request.query_params.get("since", "0")
        if not (since.isascii() and since.isdecimal() and len(since) < 16):
            raise _RefusalError(HTTPStatus.BAD_REQUEST, "since: write milliseconds since 1970")
        state = await run_in_threadpool(self.feed.snapshot, int(since))
        return json_answer({**state, "anew": not int(since), "jobs": self.desk.jobs()})

    async def causes(self, request: Request) -> Response:
        """The causes of dead letters."""
        await self._may_read_texts(request)
        with_closed = request.query_params.get("closed") == "1"
        return json_answer(await run_in_threadpool(self.desk.causes, with_closed=with_closed))

    async def examples(self, request: Request) -> Response:
        """Dead letters of one cause."""
        await self._may_read_texts(request)
        with_closed = request.query_params.get("closed") == "1"
        cause = request.query_params.get("cause", "")
        return json_answer(await run_in_threadpool(self.desk.examples, cause, with_closed=with_closed))

    async def find(self, request: Request) -> Response:
        """Dead letters by key, event id or trace id."""
        await self._may_read_texts(request)
        text = request.query_params.get("text", "").strip()
        if not text:
            raise _RefusalError(HTTPStatus.BAD_REQUEST, "write a key, an event's id or a trace id")
        return json_answer(await run_in_threadpool(self.desk.find, text))

    async def outcome(self, request: Request) -> Response:
        """What became of the records that a job sent."""
        await self._may_read(request)
        return json_answer(await run_in_threadpool(self.desk.outcome, request.path_params["job"]))

    async def letter(self, request: Request) -> Response:
        """One dead letter."""
        await self._may_read_texts(request)
        try:
            path = request.path_params
            place = Place(path["topic"], int(path["partition"]), int(path["offset"]))
        except ValueError:
            raise _RefusalError(HTTPStatus.BAD_REQUEST, "write TOPIC/PARTITION/OFFSET") from None
        return json_answer(await run_in_threadpool(self.desk.show, place))

    async def survey(self, request: Request) -> Response:
        """A dry run of a replay. It is kept to be executed, so whoever makes one needs the token where there is one."""
        if self.access.token_names:
            await self._admit(request)
        return json_answer(await run_in_threadpool(self.desk.prepare, await _body(request, Wanted)))

    async def execute(self, request: Request) -> Response:
        """Begin the replay whose dry run had this digest."""
        if not self.access.allow_replay:
            raise _RefusalError(
                HTTPStatus.FORBIDDEN,
                "this console only reads: start it with --allow-replay and a token, or use `streamer dlq replay`",
            )
        name = await self._admit(request)
        chosen = await _body(request, _Chosen)
        return json_answer(await run_in_threadpool(self.desk.execute, chosen.digest, name), HTTPStatus.ACCEPTED)

    async def _may_read(self, request: Request) -> None:
        if self.access.private:
            await self._admit(request)

    async def _may_read_texts(self, request: Request) -> None:
        """Behind a proxy everybody seems to be on this machine."""
        if self.access.show_text and not self.access.private and self.front.came_through_another(request.scope):
            why = "this came through a proxy that the console does not know: name its address with --trust-proxy"
            raise _RefusalError(HTTPStatus.FORBIDDEN, why)
        if self.access.private or self.access.private_texts:
            await self._admit(request)

    async def _admit(self, request: Request) -> str:
        """The name of the token that came with the request."""
        name = self.access.bearer(request.headers.get("authorization", ""))
        if name is None:
            await asyncio.sleep(WRONG_TOKEN_S)
            raise _RefusalError(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
        return name

    async def _ticks(self) -> AsyncIterator[bytes]:
        self.streams.append(None)
        try:
            async for tick in self._states():
                yield tick
        finally:
            self.streams.pop()

    async def _states(self) -> AsyncIterator[bytes]:
        since_ms, reading = 0, -1
        while not self.stopping():
            state = await run_in_threadpool(self.feed.snapshot, since_ms)
            if state["reading"] != reading:
                reading = state["reading"]
                if since_ms:
                    state = await run_in_threadpool(self.feed.snapshot, 0)
                state["anew"] = True
            since_ms = max(state["until_ms"] - AGAIN_MS, 1)
            state["jobs"] = self.desk.jobs()
            yield b"data: " + msgspec.json.encode(state) + b"\n\n"
            await asyncio.sleep(TICK_S)


def make_app(console: Console) -> Starlette:
    """The application; gathering begins and ends with it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        console.feed.start()
        try:
            yield
        finally:
            await run_in_threadpool(console.desk.close)
            await run_in_threadpool(console.feed.close)

    routes = [
        Route("/", console.page),
        Route("/api/about", console.about),
        Route("/api/live", console.live),
        Route("/api/now", console.now),
        Route("/api/causes", console.causes),
        Route("/api/examples", console.examples),
        Route("/api/find", console.find),
        Route("/api/jobs/{job}/outcome", console.outcome),
        Route("/api/letters/{topic}/{partition}/{offset}", console.letter),
        Route("/api/replay/survey", console.survey, methods=["POST"]),
        Route("/api/replay/execute", console.execute, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Guard, front=console.front)],
        exception_handlers={_RefusalError: _refused, StreamerError: _failed},
    )


async def _body(request: Request, kind: type[_Kind]) -> _Kind:
    """The JSON body. Only JSON is taken: a form of another site's can't send it."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise _RefusalError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise _RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send at most {MAX_BODY_BYTES:,} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _RefusalError(HTTPStatus.BAD_REQUEST, str(error)) from None
    except msgspec.DecodeError:
        raise _RefusalError(HTTPStatus.BAD_REQUEST, "the body is no JSON") from None


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, _RefusalError)
    return error_answer(error.status, error.error)


async def _failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, StreamerError)
    return error_answer(_STATUS.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE), str(error))
