from __future__ import annotations

import subprocess
import sys

import pytest

from streamer.inference.spec import WorkerSpec, plan_threads, worker_environment


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "pipelines", "expected"),
    [
        (0, 0, 2, 1, (1, 1)),
        (0, 0, 1, 1, (1, 1)),
        (0, 0, 4, 1, (1, 3)),
        (0, 0, 16, 1, (4, 3)),
        (0, 0, 16, 3, (2, 2)),
        (0, 0, 2, 4, (1, 1)),
        (3, 0, 16, 1, (3, 5)),
        (0, 1, 16, 1, (15, 1)),
        (0, 8, 4, 1, (1, 8)),
        (2, 2, 2, 1, (2, 2)),
    ],
)
def test_threads_leave_the_driver_a_core(
    workers: int, threads: int, cores: int, pipelines: int, expected: tuple[int, int]
) -> None:
    """Chosen numbers never take the last core; asked-for ones are kept."""
    assert plan_threads(workers, threads, cores, pipelines) == expected


def test_a_worker_is_offline_and_does_not_spin() -> None:
    """Its environment bounds threads, keeps them from spinning, and closes the hub."""
    variables = worker_environment(WorkerSpec("p", "embedding", "m", threads=3))
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["OMP_WAIT_POLICY"] == "PASSIVE"
    assert variables["HF_HUB_OFFLINE"] == "1"


def test_the_driver_side_imports_no_torch() -> None:
    """A driver that starts workers has none of the model's libraries in it."""
    heavy = ("torch", "transformers", "tokenizers", "numpy")
    code = f"import sys, streamer.inference.parent.pool; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
