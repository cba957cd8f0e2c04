"""The URL of the shared cache: what it says, what is wrong with one, and how it is shown without its password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

HIDDEN: Final = "(hidden)"

_FORMS: Final = "write redis://HOST:PORT/DATABASE, rediss://… for TLS, or unix:///PATH"
_SEVERAL: Final = {
    "sentinel": "write redis+sentinel://HOST:PORT,HOST:PORT/NAME/DATABASE, NAME as the sentinels know the primary",
    "cluster": "write redis+cluster://HOST:PORT,HOST:PORT",
}
_LOGIN: Final = ("username", "password")
_PORTS: Final = {"sentinel": 26379, "cluster": 6379}
_ESCAPE: Final = "write / # ? @ % in a user or password as %2F %23 %3F %40 %25"


@dataclass(frozen=True, slots=True)
class RedisHosts:
    """A URL of several servers: its `kind` is sentinel or cluster. `one` is the URL of one server that has the rest of
    what it says: login, database, options. `name` is what the sentinels call the primary, and `login` is for them."""

    kind: str
    hosts: tuple[tuple[str, int], ...]
    name: str
    one: str = field(repr=False)
    login: Mapping[str, str] = field(repr=False)


def several_of(url: str) -> RedisHosts | None:
    """The parts of a URL of several servers, without fault by `url_problem`; None for another."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if kind not in _SEVERAL:
        return None
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, at, places = authority.rpartition("@")
    parts = [urlsplit(f"redis://{place}") for place in places.split(",")]
    hosts = tuple((part.hostname or "", _PORTS[kind] if part.port is None else part.port) for part in parts)
    name, _, database = path.partition("/") if kind == "sentinel" else ("", "", path)
    options = dict(parse_qsl(query))
    theirs = {option: options.pop(f"sentinel_{option}") for option in _LOGIN if f"sentinel_{option}" in options}
    one = f"{base}://{login}{at}host/{database.strip('/')}?{urlencode(options)}"
    return RedisHosts(kind, hosts, name, one, theirs)


def url_problem(url: str) -> str | None:
    """Why it is no URL of Redis, and the fix; None when it is one. Quotes nothing of it: it may hold a password."""
    if any(char.isspace() or not char.isprintable() for char in url):
        return f"a space or a line break is in it; {_FORMS}"
    if url.startswith(tuple(f"{base}+{kind}://" for base in ("redis", "rediss") for kind in _SEVERAL)):
        return _problem_of_several(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"its port is not a number from 1 to 65535, or its host is not a name; {_FORMS}, and {_ESCAPE}"
    if parts.scheme not in ("redis", "rediss", "unix"):
        return f"no URL of Redis; {_FORMS}, or redis+sentinel://… or redis+cluster://…"
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


def _problem_of_several(url: str) -> str | None:
    kind = url.partition("://")[0].partition("+")[2]
    forms = _SEVERAL[kind]
    try:
        found = several_of(url)
    except ValueError:
        return f"a port is not a number from 1 to 65535, or a host is not a name; {forms}, and {_ESCAPE}"
    assert found is not None
    database = urlsplit(found.one).path.strip("/")
    authority = re.split("[/?]", url.partition("://")[2])[0]
    if "#" in url or url.rfind("@") > url.find(authority) + len(authority):
        return f"its password seems to hold a sign at which URLs are split; {_ESCAPE}"
    if not all(host for host, _ in found.hosts):
        return f"a host is missing; {forms}"
    if not all(port for _, port in found.hosts):
        return f"a port is not a number from 1 to 65535; {forms}"
    if kind == "sentinel" and not found.name:
        return f"the primary's name is missing; {forms}"
    if kind == "cluster" and database.strip("0"):
        return f"a Redis Cluster has database 0 only; {forms}"
    if database and not database.isdecimal():
        return f"its database is not a number; {forms}"
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
