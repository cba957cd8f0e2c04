"""The URL of the shared cache: what is wrong with one, and how it is shown without its password."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

HIDDEN: Final = "(hidden)"

_FORMS: Final = "write redis://HOST:PORT/DATABASE, rediss://… for TLS, or unix:///PATH"
_ESCAPE: Final = "write / # ? @ % in a user or password as %2F %23 %3F %40 %25"


def url_problem(url: str) -> str | None:
    """Why it is no URL of Redis, and the fix; None when it is one. Quotes nothing of it: it may hold a password."""
    if any(char.isspace() or not char.isprintable() for char in url):
        return f"a space or a line break is in it; {_FORMS}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"its port is not a number from 1 to 65535, or its host is not a name; {_FORMS}, and {_ESCAPE}"
    if parts.scheme not in ("redis", "rediss", "unix"):
        return f"no URL of Redis; {_FORMS}"
    if parts.fragment or "#" in url or "@" in parts.path + parts.query:
        return f"its password seems to hold a sign at which URLs are split; {_ESCAPE}"
    if parts.scheme == "unix":
        return None if parts.path else f"the socket's path is missing; {_FORMS}"
    if not parts.hostname:
        return f"the host is missing; {_FORMS}"
    if port == 0:
        return f"its port is not a number from 1 to 65535; {_FORMS}"
    if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        return f"its database is not a number; {_FORMS}"
    return None


def redacted_url(url: str) -> str:
    """The URL without password and query; `(hidden)` when it can't be read.

    Also of one whose password holds the signs at which URLs are split: all that stands before the last @ is hidden, but
    for a user's name.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return HIDDEN if url else ""
    if not scheme.replace("+", "").isalnum():
        return HIDDEN
    login, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        login = f"{user if colon and _is_plain(user) else ''}{':' if colon else ''}{HIDDEN}@"
    place, question, _ = place.partition("?")
    place, number, _ = place.partition("#")
    return f"{scheme}://{login}{place}{f'?{HIDDEN}' if question else ''}{f'#{HIDDEN}' if number else ''}"


def _is_plain(user: str) -> bool:
    """Whether a user's name ends where it seems to."""
    return user.replace("-", "").replace("_", "").replace(".", "").isalnum() or not user
