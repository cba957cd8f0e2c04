"""The web application: its routes. Nothing but /api/orders/execute writes anything in Kafka; that, the dry run that
it goes by, and a cancellation ask for the token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

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
from streamer.console.answers import RefusalError, body_of, failed, filter_of, refused
from streamer.console.asked import Wanted
from streamer.console.desk import Desk
from streamer.console.feed import Feed
from streamer.console.front import Front
from streamer.console.guard import Guard, json_answer
from streamer.console.health import LENGTHS
from streamer.console.looks import Looks
from streamer.console.traced import Traced, span_of
from streamer.core.deadletters.letter import Place
from streamer.errors import StreamerError
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer

STATIC: Final = Path(__file__).parent / "static"
TICK_S: Final = 1.0
MAX_STREAMS: Final = 100
_STREAM: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}  # a proxy must not collect events
WRONG_TOKEN_S: Final = 0.5


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body that says nothing: that it is JSON shows that our page sent it."""


class _Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """What to execute. A job's name would not be enough: another dry run may have it, too."""

    digest: str


@dataclass(frozen=True, slots=True)
class Console:
    """What the routes work with. `stopping` tells streams when to end, `streams` is how many there are;
    `prometheus_url` is where longer times are looked at, "" where nobody said. `tracer` sends spans of requests."""

    config: Config
    access: Access
    front: Front
    feed: Feed
    looks: Looks
    desk: Desk
    stopping: Callable[[], bool]
    prometheus_url: str = ""
    tracer: ToolTracer = NO_SPANS
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
                "prometheus_url": self.prometheus_url or None,
            }
        )

    async def live(self, request: Request) -> Response:
        """Server-sent events, one a second: the state of everything, with the points since the last one. The page opens
        one a browser."""
        await self._may_read(request)
        if len(self.streams) >= MAX_STREAMS:
            why = f"{MAX_STREAMS} browsers are watching this console: close one, or start another console"
            raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, why)
        return StreamingResponse(self._ticks(), media_type="text/event-stream", headers=_STREAM)

    async def now(self, request: Request) -> Response:
        """The same once."""
        await self._may_read(request)
        return Response(await run_in_threadpool(self.feed.overview), media_type="application/json")

    async def pipeline(self, request: Request) -> Response:
        """One pipeline whole, with its points from `since` on, in ms."""
        await self._may_read(request)
        since = request.query_params.get("since", "0")
        if not (since.isascii() and since.isdecimal() and len(since) < 16):
            raise RefusalError(HTTPStatus.BAD_REQUEST, "since: write milliseconds since 1970")
        name = request.query_params.get("name", "")
        found = await run_in_threadpool(self.feed.pipeline, name, int(since))
        if found is None:
            why = f"There is no pipeline {name} in the configuration or in the reports"
            raise RefusalError(HTTPStatus.NOT_FOUND, why)
        return json_answer(found)

    async def health(self, request: Request) -> Response:
        """The health of one pipeline's models, with windows of five minutes or of an hour."""
        await self._may_read(request)
        length = request.query_params.get("length", "5m")
        if length not in LENGTHS:
            raise RefusalError(HTTPStatus.BAD_REQUEST, f"length: write {' or '.join(LENGTHS)}")
        name = request.query_params.get("name", "")
        found = await run_in_threadpool(self.feed.health.picture, name, length, time.time_ns() // 1_000_000)
        if found is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, f"The health app has said nothing of a pipeline {name}")
        return json_answer(found)

    async def causes(self, request: Request) -> Response:
        """The causes of dead letters."""
        await self._may_read_texts(request)
        return json_answer(await run_in_threadpool(self.looks.causes, filter_of(request)))

    async def letters(self, request: Request) -> Response:
        """The first dead letters that a filter and a search ask for."""
        await self._may_read_texts(request)
        return json_answer(await run_in_threadpool(self.looks.letters, filter_of(request)))

    async def jobs(self, request: Request) -> Response:
        """The jobs that moved or closed dead letters, and the audit."""
        await self._may_read(request)
        return json_answer(await run_in_threadpool(self.desk.history))

    async def outcome(self, request: Request) -> Response:
        """What became of the records that a job sent."""
        await self._may_read(request)
        return json_answer(await run_in_threadpool(self.looks.outcome, request.path_params["job"]))

    async def letter(self, request: Request) -> Response:
        """One dead letter."""
        await self._may_read_texts(request)
        try:
            path = request.path_params
            place = Place(path["topic"], int(path["partition"]), int(path["offset"]))
        except ValueError:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "write TOPIC/PARTITION/OFFSET") from None
        return json_answer(await run_in_threadpool(self.looks.show, place))

    async def survey(self, request: Request) -> Response:
        """A dry run. It is kept to be executed, so whoever makes one needs the token where there is one."""
        if self.access.token_names:
            await self._admit(request)
        return json_answer(await run_in_threadpool(self.desk.prepare, await body_of(request, Wanted)))

    async def execute(self, request: Request) -> Response:
        """Begin the job whose dry run had this digest."""
        name = await self._may_write(request)
        chosen = await body_of(request, _Chosen)
        span = span_of(request)
        began = await run_in_threadpool(self.desk.execute, chosen.digest, name, span.context if span else None)
        if span is not None:
            span.attributes["streamer.job"] = began["job"]
        return json_answer(began, HTTPStatus.ACCEPTED)

    async def cancel(self, request: Request) -> Response:
        """Stop a job of this console's after its open transaction."""
        name = await self._may_write(request)
        await body_of(request, _Nothing)
        return json_answer(await run_in_threadpool(self.desk.cancel, request.path_params["job"], name))

    async def _may_write(self, request: Request) -> str:
        """Whose token came with the request."""
        if not self.access.allow_replay:
            raise RefusalError(
                HTTPStatus.FORBIDDEN,
                "this console only reads: start it with --allow-replay and a token, or use `streamer dlq`",
            )
        return await self._admit(request)

    async def _may_read(self, request: Request) -> None:
        if self.access.private:
            await self._admit(request)

    async def _may_read_texts(self, request: Request) -> None:
        """Behind a proxy everybody seems to be on this machine."""
        if self.access.show_text and not self.access.private and self.front.came_through_unknown_proxy(request.scope):
            why = "this came through a proxy that the console does not know: name its address with --trust-proxy"
            raise RefusalError(HTTPStatus.FORBIDDEN, why)
        if self.access.private or self.access.private_texts:
            await self._admit(request)

    async def _admit(self, request: Request) -> str:
        """The name of the token that came with the request."""
        name = self.access.bearer(request.headers.get("authorization", ""))
        if name is None:
            await asyncio.sleep(WRONG_TOKEN_S)
            raise RefusalError(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
        return name

    async def _ticks(self) -> AsyncIterator[bytes]:
        self.streams.append(None)
        try:
            async for tick in self._states():
                yield tick
        finally:
            self.streams.pop()

    async def _states(self) -> AsyncIterator[bytes]:
        while not self.stopping():
            yield b"data: " + await run_in_threadpool(self.feed.overview) + b"\n\n"
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
        Route("/api/pipeline", console.pipeline),
        Route("/api/health", console.health),
        Route("/api/causes", console.causes),
        Route("/api/letters", console.letters),
        Route("/api/jobs", console.jobs),
        Route("/api/jobs/{job}/outcome", console.outcome),
        Route("/api/letters/{topic}/{partition}/{offset}", console.letter),
        Route("/api/jobs/{job}/cancel", console.cancel, methods=["POST"]),
        Route("/api/orders/survey", console.survey, methods=["POST"]),
        Route("/api/orders/execute", console.execute, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Guard, front=console.front), Middleware(Traced, tracer=console.tracer, routes=routes)],
        exception_handlers={RefusalError: refused, StreamerError: failed},
    )
