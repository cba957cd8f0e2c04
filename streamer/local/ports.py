"""Free TCP ports on the loopback address."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the ports that Linux (32768–60999) and macOS (49152–65535) lend to outgoing connections. A client that keeps
# dialling a stopped broker on a lent port may be lent that very port, connect to itself and so block the restart.
_FIRST_PORT, _LAST_PORT = 15_000, 32_767
_ATTEMPTS = 200


def port_is_free(port: int) -> bool:
    """Whether a server could bind `port` on the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, adjacent: bool = False) -> list[int]:
    """`count` different ports that were free a moment ago; the caller tries again if one is taken meanwhile."""
    found: list[int] = []
    for first in random.sample(range(_FIRST_PORT, _LAST_PORT - count), _ATTEMPTS):
        run = range(first, first + count) if adjacent else [first]
        if all(port_is_free(port) for port in run):
            found.extend(run)
        if len(found) >= count:
            return found
    raise OSError(f"found no {count} free ports between {_FIRST_PORT} and {_LAST_PORT} on {LOOPBACK}")
