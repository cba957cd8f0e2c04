"""A model answers as it was loaded, whatever becomes of its files."""

from __future__ import annotations

import mmap
from pathlib import Path

from safetensors.numpy import load_file, save

from streamer.inference.models.own_pages import own_pages
from tests.models import tiny_bert
from tests.unit.tasks_kit import TEXTS, outputs
from tests.unit.test_inference_loading import model_in


def overwrite(file: Path, content: bytes) -> None:
    """In place, as cp does it."""
    with file.open("r+b") as opened:
        opened.write(content)


def test_pages_of_weights_become_the_processs_own(tmp_path: Path) -> None:
    """Every page, the last one included; other files stay mapped as they are."""
    size = 3 * mmap.PAGESIZE + 10
    mapped = {}
    for file in (tmp_path / "model.safetensors", tmp_path / "other.bin"):
        file.write_bytes(b"\1" * size)
        with file.open("rb") as opened:
            rights = mmap.PROT_READ | mmap.PROT_WRITE
            mapped[file] = mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=rights)
    own_pages()
    for file in mapped:
        overwrite(file, b"\2" * size)
    assert [set(each[:]) for each in mapped.values()] == [{1}, {2}]
    for each in mapped.values():
        each.close()


def test_who_overwrites_the_files_changes_no_answer(tmp_path: Path) -> None:
    """A model directory is replaced in place under a worker: its answers bear the revision that it loaded."""
    path = tiny_bert(tmp_path / "model")
    file = path / "model.safetensors"
    model = model_in(path)
    before = outputs(model, TEXTS)
    others = {name: weights[::-1].copy() for name, weights in load_file(file).items()}
    overwrite(file, save(others, {"format": "pt"}))
    assert outputs(model, TEXTS) == before
    assert outputs(model_in(path), TEXTS) != before
