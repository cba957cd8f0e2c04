from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from streamer.errors import BrokenModelError, ModelError
from streamer.inference.models.safety import digest, refuse_kernels, used_files, view


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The files of a model, with made-up contents."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}))
    save_file({"weight": np.arange(64, dtype=np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


@pytest.mark.promise(8)
def test_only_known_files_are_used(model: Path) -> None:
    """Code, pickles and notes beside the weights are neither hashed nor loaded."""
    for name in ("modeling_evil.py", "pytorch_model.bin", "README.md", "onnx_config.json"):
        (model / name).write_text("x")
    assert used_files(model) == ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize(
    "name", ["consolidated.safetensors", "model.fp16.safetensors", "model-00001-of-00002.safetensors"]
)
def test_other_weights_beside_those_that_are_loaded_are_not_looked_at(model: Path, name: str) -> None:
    """Copies of other formats may even be pointers; what config.json names is loaded."""
    (model / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert used_files(model) == ["config.json", "model.safetensors", "tokenizer.json"]
    (model / "config.json").write_text(json.dumps({"model_type": "bert", "transformers_weights": name}))
    with pytest.raises(ModelError, match=f"{name} is a Git LFS pointer"):
        used_files(model)


@pytest.mark.promise(8)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl", "model.ckpt", "tf_model.h5"])
def test_weights_that_can_run_code_are_refused(model: Path, name: str) -> None:
    """A directory without safetensors is refused by the name of what it has."""
    (model / "model.safetensors").rename(model / name)
    with pytest.raises(ModelError, match=name):
        used_files(model)


def test_a_directory_without_weights_is_refused(model: Path) -> None:
    """There is nothing to load."""
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        used_files(model)


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "extra",
    [
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": "kernels-community/flash-attn2"},
        {"attn_implementation": "paged|kernels-community/flash-attn2:flash_attn_varlen_func"},
        {"attn_implementation": {"text_config": "someone/kernel"}},
        {"text_config": {"_attn_implementation": "someone/kernel@main"}},
        {"layers": [{"attn_implementation": "unheard_of"}]},
        {"experts_implementation": "deepgemm"},
        {"_experts_implementation": "someone/experts"},
    ],
)
def test_a_configuration_that_asks_for_code_is_refused(model: Path, extra: dict[str, object]) -> None:
    """At any depth; the message names the file and the field."""
    (model / "config.json").write_text(json.dumps({"model_type": "bert"} | extra))
    with pytest.raises(ModelError, match=r"config\.json has _?(attn|experts)_implementation = .* asks to run code"):
        used_files(model)


@pytest.mark.parametrize(
    "extra",
    [
        {"auto_map": {"AutoModel": "modeling.Model"}},
        {"_attn_implementation": "eager"},
        {"_attn_implementation": "sdpa"},
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation_autoset": True},
        {"_attn_implementation_internal": "sdpa"},
        {"_attn_implementation": None},
        {"use_kernels": True},
        {"kernel_config": {}},
        {"chunkwise_kernel": "chunkwise--native_autograd", "autocast_kernel_dtype": "bfloat16"},
        {"time_step_limit": [0.0, float("inf")], "temperature": float("nan")},
    ],
)
def test_a_harmless_configuration_is_not_refused(model: Path, extra: dict[str, object]) -> None:
    """What transformers reads without running code from elsewhere, written as Python writes it."""
    (model / "config.json").write_text(json.dumps({"model_type": "bert"} | extra))
    assert "config.json" in used_files(model)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.every_way)])
def test_no_configuration_that_transformers_writes_asks_for_code(*, every: bool) -> None:
    """The defaults of every architecture, which take seconds to import; those of one in ten in each run."""
    from transformers import CONFIG_MAPPING

    looked_at = 0
    for kind in list(CONFIG_MAPPING)[:: 1 if every else 10]:
        try:
            written = CONFIG_MAPPING[kind]().to_json_string(use_diff=False)
        except Exception:  # some have no defaults, or need packages
            continue
        refuse_kernels(json.loads(written), Path("config.json"))
        looked_at += 1
    assert looked_at > (500 if every else 50)


@pytest.mark.promise(8)
def test_one_byte_changes_the_digest(model: Path) -> None:
    """In any file, in the middle of it."""
    before = digest(model, used_files(model))
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    assert digest(model, used_files(model)) != before


def test_bytes_that_move_between_files_change_the_digest(model: Path) -> None:
    """Contents are hashed with their lengths, not strung together."""
    (model / "vocab.json").write_text("ab")
    (model / "vocab.txt").write_text("c")
    before = digest(model, used_files(model))
    (model / "vocab.json").write_text("a")
    (model / "vocab.txt").write_text("bc")
    assert digest(model, used_files(model)) != before


def test_the_digest_does_not_depend_on_the_directory(model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same files elsewhere are the same model."""
    other = tmp_path_factory.mktemp("elsewhere")
    for name in used_files(model):
        (other / name).write_bytes((model / name).read_bytes())
    assert digest(other, used_files(other)) == digest(model, used_files(model))


@pytest.mark.promise(8)
def test_a_loader_sees_only_what_was_hashed(model: Path) -> None:
    """The view holds the used files, sub-directories included, and nothing else."""
    (model / "modeling_evil.py").write_text("x")
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text("{}")
    modules = [{"name": str(place), "path": path, "type": "x"} for place, path in enumerate(["", "1_Pooling"])]
    (model / "modules.json").write_text(json.dumps(modules))
    names = used_files(model)
    with view(model, names) as path:
        seen = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        assert seen == names
        assert "1_Pooling/config.json" in seen
        assert (path / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert not path.exists()


@pytest.mark.parametrize(
    ("raised", "expected"), [(ModelError, ModelError), (BrokenModelError, BrokenModelError), (OSError, ModelError)]
)
def test_what_a_loader_raises_names_the_users_directory(
    model: Path, raised: type[Exception], expected: type[Exception]
) -> None:
    """Not the temporary one, which is gone by then."""
    with pytest.raises(expected) as caught, view(model, used_files(model)) as path:
        raise raised(f"no file in {path}")
    assert type(caught.value) is expected
    assert f"no file in {model}" in str(caught.value)


def test_what_a_loader_raises_without_a_path_is_left_alone(model: Path) -> None:
    """A bug stays one."""
    with pytest.raises(KeyError, match="name"), view(model, used_files(model)):
        raise KeyError("name")
