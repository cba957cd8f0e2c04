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


def free_ports(count: int) -> list[int]:
    """`count` different ports that were free a moment ago; the caller tries again if one is taken meanwhile."""
    found: list[int] = []
    for port in random.sample(range(_FIRST_PORT, _LAST_PORT), _ATTEMPTS):
        if len(found) == count:
            break
        if port_is_free(port):
            found.append(port)
    if len(found) < count:
        raise OSError(
            f"found no {count} free ports between {_FIRST_PORT} and {_LAST_PORT} on {LOOPBACK}"
        )
    return found
