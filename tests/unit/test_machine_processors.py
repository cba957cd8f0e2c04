"""How much of a machine workers may take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer.inference.spec import plan_threads
from streamer.machine.processors import usable_cores, usable_gpus, usable_memory_bytes

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({}, "0::/\n", HERE),
        ({"cpu.max": "max 100000\n"}, "0::/\n", HERE),
        ({"cpu.max": "100000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "100000 100000\n", "pod/box/cpu.max": "max 100000\n"}, "0::/pod/box\n", 1),
        ({"pod/box/cpu.max": "100000 100000\n"}, "0::/pod/box\n", 1),
        ({"cpu,cpuacct/box/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/box/cpu.cfs_period_us": "100000\n"},
         "4:cpu,cpuacct:/box\n3:memory:/box\n", 1),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
         "4:cpu,cpuacct:/elsewhere\n", HERE),
        ({"cpu.max": "nonsense\n"}, "0::/\n", HERE),
    ],
)  # fmt: skip
def test_the_quota_of_every_group_above_is_kept(
    tmp_path: Path, files: dict[str, str], membership: str, expected: int
) -> None:
    """Cores beyond what the quota pays for are not counted, in both versions of control groups."""
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "membership").write_text(membership)
    assert usable_cores(tmp_path / "groups", tmp_path / "membership") == expected


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    """On other systems too."""
    assert usable_cores(tmp_path / "none", tmp_path / "none either") == HERE


@pytest.mark.parametrize(
    ("device", "environ", "expected"),
    [
        ("auto", {}, 2),
        ("cuda", {}, 2),
        ("cuda:1", {}, 0),
        ("cpu", {}, 0),
        ("auto", {"CUDA_VISIBLE_DEVICES": "1"}, 1),
        ("auto", {"CUDA_VISIBLE_DEVICES": ""}, 0),
        ("auto", {"CUDA_VISIBLE_DEVICES": "-1"}, 0),
    ],
)
def test_gpus_that_workers_share_out(tmp_path: Path, device: str, environ: dict[str, str], expected: int) -> None:
    """Those present and visible; none where one was named."""
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert usable_gpus(device, environ, tmp_path) == expected


def test_a_machine_without_gpus_has_none(tmp_path: Path) -> None:
    """No driver, no directory."""
    assert usable_gpus("auto", {}, tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "gpus", "expected"),
    [(0, 0, 64, 8, (8, 7)), (0, 0, 2, 8, (8, 1)), (3, 0, 64, 8, (3, 21)), (0, 2, 64, 1, (1, 2))],
)
def test_each_gpu_gets_one_worker(workers: int, threads: int, cores: int, gpus: int, expected: tuple[int, int]) -> None:
    """Unless a number was asked for."""
    assert plan_threads(workers, threads, cores, gpus=gpus) == expected


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({"memory.max": "max\n"}, "0::/\n", None),
        ({"memory.max": "1000000\n", "pod/box/memory.max": "max\n"}, "0::/pod/box\n", 1_000_000),
        ({"pod/memory.max": "3000000\n", "pod/box/memory.max": "2000000\n"}, "0::/pod/box\n", 2_000_000),
        ({"memory/box/memory.limit_in_bytes": "1000000\n"}, "4:memory:/box\n3:cpu:/box\n", 1_000_000),
    ],
)
def test_the_memory_limit_of_every_group_above_is_kept(
    tmp_path: Path, files: dict[str, str], membership: str, expected: int | None
) -> None:
    """The smallest of them, in both versions of control groups."""
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "membership").write_text(membership)
    there = usable_memory_bytes(tmp_path / "none", tmp_path / "none either")
    assert usable_memory_bytes(tmp_path / "groups", tmp_path / "membership") == (expected or there)
