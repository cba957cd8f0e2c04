"""A model answers as it was loaded, whatever becomes of its files; and it takes no more memory than its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file, save
from safetensors.torch import load_file as load_mapped
from safetensors.torch import save_file

from streamer.inference.models.own_pages import own_tensors, own_weights
from streamer.inference.models.sentence_modules import read_weights
from tests.language_models import tiny_decoder
from tests.models import tiny_bert
from tests.peft_adapters import CASES, FOLDER, make_base
from tests.unit.tasks_kit import TEXTS, model_of, outputs
from tests.unit.test_adapters import merged
from tests.unit.test_inference_loading import model_in

_MANY = 1 << 22  # numbers: 16 MiB


def overwrite(file: Path, content: bytes) -> None:
    """In place, as cp does it."""
    with file.open("r+b") as opened:
        opened.write(content)


def resident(file: Path) -> dict[str, int]:
    """Bytes of a file's mappings that are in memory: all, and those that are this process's own."""
    found, within = {"Rss": 0, "Anonymous": 0}, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *others = line.split()
        if not first.endswith(":"):
            within = line.endswith(str(file))
        elif within and first[:-1] in found:
            found[first[:-1]] += int(others[0]) << 10
    return found


def test_only_tensors_that_are_used_are_copied(tmp_path: Path) -> None:
    """One by one: what was copied is no longer held as the file's. Tied weights stay tied, and what lies beside a
    tensor stays as it was written to."""
    file = tmp_path / "model.safetensors"
    save_file({name: torch.full((_MANY,), 1.0) for name in ("a", "b", "unused")}, file)
    tensors = load_mapped(file)
    tensors["b"][0] = 7
    network: Any = torch.nn.Module()
    network.a, network.tied = (torch.nn.Parameter(tensors["a"], requires_grad=False) for _ in range(2))
    network.register_buffer("b", tensors["b"])
    [one.sum() for one in tensors.values()]  # all are read
    assert resident(file)["Rss"] >= 12 * _MANY
    own_weights(network)
    found = resident(file)
    assert found["Rss"] < 5 * _MANY  # the one that is not used
    assert found["Anonymous"] < _MANY
    assert network.a.data_ptr() == network.tied.data_ptr() != tensors["a"].data_ptr()
    overwrite(file, b"\xff" * file.stat().st_size)
    assert float(network.a.sum()) == _MANY
    assert float(network.b.sum()) == _MANY + 6
    assert own_tensors({"a": network.a})["a"] is network.a


def test_a_view_of_other_weights_keeps_what_was_written_to_them(tmp_path: Path) -> None:
    """What is let go of a file comes back as the file has it."""
    save_file({"a": torch.full((_MANY,), 1.0)}, tmp_path / "model.safetensors")
    mapped = load_mapped(tmp_path / "model.safetensors")["a"]
    mapped[:] = 7
    network: Any = torch.nn.Module()
    for name, view in {"whole": mapped, "first": mapped[: _MANY // 2], "square": mapped.view(-1, 1024)}.items():
        network.register_buffer(name, view)
    own_weights(network)
    assert all(bool((one == 7).all()) for one in network.buffers())


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


@pytest.mark.parametrize("kind", ["encoder", "decoder", "adapter", "module"])
def test_no_model_keeps_a_mapped_file(tmp_path: Path, kind: str) -> None:
    """Of its own, of a module of its own, or of its adapter."""
    kept: Any
    if kind == "encoder":
        kept = model_of(tiny_bert(tmp_path), "text-classification")
    elif kind == "decoder":
        kept = model_of(tiny_decoder(tmp_path, "llama"), "scoring")
    elif kind == "adapter":
        kept = merged(CASES["biases"], make_base(CASES["biases"], tmp_path), FOLDER / "biases")
    else:
        save_file({"linear.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
        kept = read_weights(tmp_path, "")
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(".safetensors")]
    assert kept
    assert [line for line in mapped if str(tmp_path) in line or str(FOLDER) in line] == []
