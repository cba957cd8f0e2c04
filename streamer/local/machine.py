"""This machine, as far as this process may use it: cores, memory, GPUs, addresses to listen on."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from streamer.core.facts import MachineFacts

_CGROUP = Path("/sys/fs/cgroup")
_ANSWER_S = 0.5


def inspect(addresses: Iterable[str]) -> MachineFacts:
    """The machine; `addresses` (host:port) are those to be listened on."""
    taken = {address: _is_ours(address) for address in addresses if not _is_free(address)}
    return MachineFacts(cores=_cores(), memory_bytes=_memory_bytes(), gpus=_gpus(), taken=taken)


def _cores() -> int:
    """The cores that the scheduler and the control group's quota leave to this process."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _read("cpu.max").partition(" ")
    return max(1, min(cores, int(quota) // int(period))) if quota.isdigit() and period.isdigit() else cores


def _memory_bytes() -> int:
    """RAM, or what the control group allows of it (version 2, then 1)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_read("memory.max"), _read("memory/memory.limit_in_bytes"))
    return min([memory, *(int(limit) for limit in limits if limit.isdigit())])


def _gpus() -> int | None:
    """NVIDIA GPUs by their device files; None under WSL, which has none of these for them."""
    found = sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))
    return None if not found and Path("/dev/dxg").exists() else found


def _read(name: str) -> str:
    try:
        return (_CGROUP / name).read_text().strip()
    except OSError:
        return ""


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
    except (OSError, ValueError):
        return False
