"""The addresses that brokers announce, and whether anybody answers there.

Whoever asks a bootstrap address is told to find the brokers at their `advertised.listeners`. Where that is wrong for
this machine, the client tries to connect for ever, and what it says in the end is that a request timed out.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from threading import Thread

from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

DIAL_S = 2.0

_told: dict[str, tuple[str, ...]] = {}
"""What brokers announced, by the bootstrap addresses that were asked."""


def announced(metadata: ClusterMetadata) -> tuple[str, ...]:
    """host:port of all brokers, by their ids."""
    return tuple(f"{node.host}:{node.port}" for _, node in sorted(metadata.brokers.items()))


def learn(bootstrap: str, metadata: ClusterMetadata) -> bool:
    """Keep what a cluster announced for `unreachable`; returns whether anybody answers at any of the addresses."""
    _told[bootstrap] = addresses = announced(metadata)
    return not addresses or any(not silent([address]) for address in addresses)


def places_of(bootstrap: str) -> list[tuple[str, int]]:
    """The hosts and ports of bootstrap addresses; 9092 is the port where none is given, as for the client."""
    found = []
    for each in bootstrap.split(","):
        place = each.strip().rpartition("://")[2]
        host, colon, port = place.rpartition(":")
        given = bool(colon) and port.isdecimal()
        found.append((host if given else place, int(port) if given else 9092))
    return [(host.strip("[]"), port) for host, port in found]


def unreachable(bootstrap: str) -> tuple[str, ...]:
    """Where brokers announced themselves and nobody answers, though somebody does at the bootstrap address."""
    addresses = silent(_told.get(bootstrap, ()))
    asked = [f"{host}:{port}" for host, port in places_of(bootstrap)]
    return addresses if addresses and len(silent(asked)) < len(asked) else ()


def silent(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of these addresses where nobody answers within `DIAL_S`. A name that does not resolve counts, too."""
    waiting = dict.fromkeys(addresses, True)

    def dial(address: str) -> None:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), DIAL_S).close()
        except (OSError, ValueError):
            return
        waiting[address] = False

    # Threads that nobody waits for: a resolver has time limits of its own.
    threads = [Thread(target=dial, args=(address,), daemon=True) for address in waiting]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + DIAL_S + 0.5
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return tuple(address for address, silent in waiting.items() if silent)
