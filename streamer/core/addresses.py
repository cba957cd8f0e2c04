"""Addresses that services listen on, and which of them can't be had at once on one machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Final, NamedTuple

_ANY: Final = frozenset({"0.0.0.0", "::"})


class Endpoint(NamedTuple):
    """Who listens on `ports` ports of a host, from `port` on. `field` is the configuration's."""

    field: str
    host: str
    port: int
    ports: int = 1

    @staticmethod
    def of(field: str, address: str, ports: int = 1) -> Endpoint | None:
        """From host:port; None of nobody, and of who takes any port that is free."""
        host, _, port = address.rpartition(":")
        return Endpoint(field, host, int(port), ports) if port.isdecimal() and int(port) and ports else None

    @property
    def addresses(self) -> str:
        """All of them, for people."""
        last = f" to {self.port + self.ports - 1}" if self.ports > 1 else ""
        return f"{self.host}:{self.port}{last}"


def clashes(listeners: Iterable[Endpoint]) -> Iterator[tuple[Endpoint, Endpoint, int]]:
    """Each pair that has an address in common, and the first port that is."""
    for one, other in combinations(listeners, 2):
        first = max(one.port, other.port)
        hosts = _bare(one.host), _bare(other.host)
        overlap = hosts[0] == hosts[1] or not _ANY.isdisjoint(hosts)
        if overlap and first < min(one.port + one.ports, other.port + other.ports):
            yield one, other, first


def _bare(host: str) -> str:
    bare = host.strip("[]").lower()
    return "127.0.0.1" if bare == "localhost" else bare
