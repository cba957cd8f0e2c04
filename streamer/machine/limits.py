"""This machine, as far as this process may use it: cores, memory, GPUs, addresses to listen on."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from streamer.core.surroundings import MachineInfo
from streamer.machine.processors import usable_cores, usable_memory_bytes

_ANSWER_S = 0.5


def inspect(addresses: Iterable[str]) -> MachineInfo:
    """The machine; `addresses` (host:port) are those to be listened on."""
    taken = {address: _is_ours(address) for address in addresses if not _is_free(address)}
    return MachineInfo(cores=usable_cores(), memory_bytes=usable_memory_bytes(), gpus=_gpus(), taken=taken)


def _gpus() -> int | None:
    """NVIDIA GPUs by their device files; None under WSL, which has none of these for them."""
    found = sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))
    return None if not found and Path("/dev/dxg").exists() else found


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, OverflowError):
            return False
    return True


def _is_ours(address: str) -> bool:
    """Whether a streamer serves its metrics there."""
    host, _, port = address.rpartition(":")
    host = "127.0.0.1" if host in ("0.0.0.0", "") else host
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=_ANSWER_S) as page:
            return b"streamer_records_total" in page.read(100_000)
    except urllib.error.HTTPError as error:  # holds its socket
        error.close()
        return False
    except (OSError, ValueError):
        return False
