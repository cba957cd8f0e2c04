"""Workers of a job over files: all cores, as far as memory and the weights allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.app.file_workers import on_all_cores, share_out
from streamer.config.pipeline import PipelineConfig
from streamer.inference.models import hub

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "weights_gb", "memory_gb", "expected"),
    [
        (1, 0.1, 8, (1, 1)),
        (2, 0.1, 8, (2, 1)),
        (8, 0.1, 64, (8, 1)),
        (16, 0.1, 64, (8, 2)),
        (64, 0.1, 512, (16, 4)),
        (8, 0.1, 3, (1, 4)),  # no room for a second one
        (2, 1.5, 64, (1, 2)),
        (16, 1.5, 64, (4, 4)),
        (16, 14, 64, (1, 4)),
    ],
)
def test_cores_are_shared_out(cores: int, weights_gb: float, memory_gb: float, expected: tuple[int, int]) -> None:
    assert share_out(cores, int(weights_gb * GB), int(memory_gb * GB), 1000) == expected


def test_a_small_input_does_not_load_the_model_many_times() -> None:
    """One worker with more threads then."""
    assert share_out(8, GB // 10, 64 * GB, 0) == (1, 4)
    assert share_out(8, GB // 10, 64 * GB, 3) == (3, 2)


def test_what_the_user_chose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the plan of a model whose memory is not known."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    model = str(tmp_path)

    def planned(model: str, workers: int = 0, threads: int = 0, input_bytes: int = 1 << 30) -> tuple[int, int]:
        given = PipelineConfig(task="t", model=model, input=["i"], output="o", workers=workers, threads=threads)
        found = on_all_cores(given, input_bytes, lambda: 2)
        return found.workers, found.threads

    assert planned(model) == (2, 1)
    monkeypatch.setattr(hub, "snapshot", lambda *_: tmp_path)
    assert planned(f"acme/tiny@{40 * '0'}") == (2, 1)
    assert planned(model, input_bytes=0) == (0, 0)
    assert planned(model, workers=1) == (1, 0)
    assert planned(model, threads=2) == (0, 2)
    assert planned("builtin:null") == planned("python:a:B") == planned(str(tmp_path / "absent")) == (0, 0)
