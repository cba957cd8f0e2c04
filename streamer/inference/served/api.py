"""What a worker asks of a server's API: how a computation is asked for, and how an answer is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from streamer.core.record import Answer
from streamer.errors import DataFailure
from streamer.inference.model import Encoded

PROBE_TEXT = "This is a known text."


class MalformedError(Exception):
    """An answer is none; `str()` says what is wrong with it, without a word of it."""


class WithheldError(Exception):
    """The server answers, and gives no text for this one; `str()` says why."""


class Identity(msgspec.Struct, frozen=True):
    """What a server says that it serves. `facts` decide answers; what a server counts or times is none of them."""

    model: str
    facts: dict[str, Any] = {}
    version: str = ""
    """A commit or the like, where the server tells one."""
    dtype: str = "served"
    max_tokens: int = 0
    most: int = 0
    """Texts that one request may have, 0 where the server does not say."""


class Answered(msgspec.Struct, frozen=True):
    """A request's answers, and who gave them where the answer says it."""

    answers: list[Answer]
    model: str = ""
    fingerprint: str = ""
    width: int = 0
    """Numbers of a vector."""


class TextRequest(msgspec.Struct, frozen=True):
    """What one computation asks for; `texts` are the event's own, which nothing may repeat."""

    path: str
    body: Any
    texts: tuple[str, ...]


class Api(Protocol):
    """One task of one API."""

    batch: int
    """The most computations of one request, 1 where the API takes no more."""
    about: str
    """The path that says what is served."""
    listed: str
    """The names of what is served, "" where there is one."""
    temperature: float | None
    """Of events that name none; None where nothing is drawn."""

    def identify(self, body: bytes, wanted: str) -> Identity:
        """What is served. Raises `MalformedError`, `ModelError` where the wanted model is not, and `NoReplyError` where
        none is as yet."""
        ...

    def encode(self, text: str, pair: str | None, params: dict[str, Any] | None) -> Encoded | DataFailure:
        """One computation, with an `TextRequest` in it."""
        ...

    def body(self, asks: Sequence[TextRequest], model: str) -> bytes:
        """The JSON of one request."""
        ...

    def read(self, body: bytes, headers: Any, asks: Sequence[TextRequest]) -> Answered:
        """The answers. Raises `MalformedError`, and of one computation `WithheldError`."""
        ...


def shares_of(total: int, asks: Sequence[TextRequest]) -> list[int]:
    """Tokens of a request, which servers count together, by the length of its texts; their sum is the total."""
    sizes = [sum(map(len, ask.texts)) or 1 for ask in asks]
    whole, given, shares = sum(sizes), 0, []
    for number, size in enumerate(sizes):
        share = total - given if number == len(sizes) - 1 else total * size // whole
        shares.append(share)
        given += share
    return shares


def length_of(text: str) -> int:
    """About how many tokens: only to let similar ones run together."""
    return 1 + len(text) // 4
