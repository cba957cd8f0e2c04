"""What comes with a request, read and checked; and what is answered when it can't be done."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from streamer.console.asked import Filter
from streamer.console.desk import BusyError
from streamer.console.guard import error_answer
from streamer.errors import ConfigurationError, DependencyError, StreamerError, UsageError
from streamer.ops.dlq.claims import RunningError

MAX_BODY_BYTES: Final = 600_000  # an edit holds a whole value, escaped
_STATUS: Final[Mapping[type[StreamerError], HTTPStatus]] = {
    UsageError: HTTPStatus.BAD_REQUEST,
    BusyError: HTTPStatus.CONFLICT,
    RunningError: HTTPStatus.CONFLICT,
    ConfigurationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    DependencyError: HTTPStatus.SERVICE_UNAVAILABLE,
}
_LISTS: Final = {"causes", "codes", "pipelines"}

_Kind = TypeVar("_Kind", bound=msgspec.Struct)


class RefusalError(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: HTTPStatus, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


def filter_of(request: Request) -> Filter:
    """The filter in the query. Raises RefusalError."""
    query = request.query_params
    given = {name: query.getlist(name) if name in _LISTS else query[name].strip() for name in query}
    try:
        return msgspec.convert(given, Filter, strict=False)
    except msgspec.ValidationError as error:
        raise RefusalError(HTTPStatus.BAD_REQUEST, str(error)) from None


async def body_of(request: Request, kind: type[_Kind]) -> _Kind:
    """The JSON body. Only JSON is taken: a form of another site's can't send it. Raises RefusalError."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusalError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send at most {MAX_BODY_BYTES:,} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise RefusalError(HTTPStatus.BAD_REQUEST, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RefusalError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None


async def refused(_: Request, error: Exception) -> Response:
    """For what a route refuses."""
    assert isinstance(error, RefusalError)
    return error_answer(error.status, error.error)


async def failed(_: Request, error: Exception) -> Response:
    """For what can't be done."""
    assert isinstance(error, StreamerError)
    return error_answer(_STATUS.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE), str(error))
