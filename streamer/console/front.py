"""Where the console stands: the names that it answers to, the path that it lies under, and the proxies before it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from streamer.console.access import knows_host
from streamer.errors import UsageError

_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Front:
    """`host` is what the console is bound to, `names` what it is called besides, `root_path` what a proxy puts before
    its paths ("" for nothing), and `proxies` whose X-Forwarded-* headers count."""

    host: str
    names: Sequence[str] = ()
    root_path: str = ""
    proxies: Sequence[Network] = ()

    def knows(self, scope: Scope) -> bool:
        """Whether the request is meant for this console. A trusted proxy says what host the browser asked for."""
        headers = Headers(scope=scope)
        asked = headers.get("host", "")
        if self.trusts(scope):
            asked = _last(headers.get("x-forwarded-host", "")) or asked
        return knows_host(asked, self.host, self.names)

    def trusts(self, scope: Scope) -> bool:
        """Whether it comes from a trusted proxy."""
        try:
            peer = ipaddress.ip_address((scope.get("client") or ("", 0))[0])
        except ValueError:
            return False
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer.version == network.version and peer in network for network in self.proxies)

    def came_through_unknown_proxy(self, scope: Scope) -> bool:
        """Whether a proxy that nobody named to us sent it: browsers do not write these headers."""
        return not self.trusts(scope) and any(name in scope_names(scope) for name in _FORWARDED)

    def path(self, scope: Scope) -> str | None:
        """The path without what a proxy puts before it, whether it took that away or not; None for that path alone,
        which lacks its slash."""
        prefix, path = self.root_path, str(scope["path"])
        if self.trusts(scope) and not prefix:
            given = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
            prefix = given if _PATH.fullmatch(given) else ""
        if prefix and path == prefix:
            return None
        return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


def make_front(host: str, names: Sequence[str], root_path: str, proxies: Sequence[str]) -> Front:
    """What the options say. Raises UsageError."""
    prefix = root_path.rstrip("/")
    if prefix and _PATH.fullmatch(prefix) is None:
        raise UsageError(f"--root-path {root_path}: write it as in a URL, e.g. /streamer")
    networks: list[Network] = []
    for proxy in proxies:
        try:
            networks.append(ipaddress.ip_network(proxy, strict=False))
        except ValueError:
            raise UsageError(f"--trust-proxy {proxy}: write an address or a network, e.g. 10.0.0.0/8") from None
    return Front(host, [name.rstrip(".") for name in names], prefix, networks)


def scope_names(scope: Scope) -> set[str]:
    """The names of a request's headers."""
    return {name.decode("latin-1").lower() for name, _ in scope["headers"]}


def _last(value: str) -> str:
    """Of several proxies' words the nearest one's: what came before it a client may have written."""
    return value.rpartition(",")[2].strip()
