"""How many CPU cores, how much memory and how many GPUs this process may use, without importing torch.

The only reader of control groups: whatever the machine has is bounded by each group above this process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_GPUS = Path("/proc/driver/nvidia/gpus")


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Those that the process may run on, and no more than its control groups' quota pays for: a container with two
    CPUs' worth of time on 64 cores would else start 63 threads that wait for one another."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in map(_quota, _groups("cpu", cgroups, membership)) if quota > 0]
    return max(1, min([cores, *(int(quota + 0.5) for quota in quotas)]))


def usable_memory_bytes(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """RAM, or what the control groups allow of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([memory, *filter(None, map(_limit_bytes, _groups("memory", cgroups, membership)))])


def free_memory_bytes(meminfo: Path = _MEMINFO) -> int:
    """What of `usable_memory_bytes` nobody has taken yet; all of it where the kernel does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return min([usable_memory_bytes(), *([int(found[1]) * 1024] if found else [])])


def usable_gpus(device: str, environ: Mapping[str, str], gpus: Path = _GPUS) -> int:
    """NVIDIA GPUs that workers of `device` share out; 0 on a CPU, and where one GPU was named."""
    if device not in ("auto", "cuda"):
        return 0
    try:
        present = len(list(gpus.iterdir()))
    except OSError:
        return 0
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    named = [one for one in visible.split(",") if one.strip() and not one.strip().startswith("-")]
    return min(present, len(named))


def _groups(controller: str, cgroups: Path, membership: Path) -> list[Path]:
    """Each control group above this process, of version 2, or of version 1 with this controller."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, own = line.split(":", 2)
        root = cgroups if not controllers else cgroups / controllers
        if controllers and controller not in controllers.split(","):
            continue
        path = root / own.lstrip("/")
        # In a container the own group may be mounted as the root.
        for group in [path, *path.parents]:
            found.append(group)
            if group == root:
                break
    return found


def _quota(group: Path) -> float:
    """CPUs' worth of time; 0 where there is no limit."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
            return 0.0 if quota == "max" else int(quota) / int(period)
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        return max(0.0, quota_us / int((group / "cpu.cfs_period_us").read_text()))
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


def _limit_bytes(group: Path) -> int:
    """0 where there is no limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            text = (group / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else 0
    return 0
