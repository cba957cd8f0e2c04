"""LoRA adapters: a merged network says what peft's own says, and what is not understood is refused by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from msgspec import structs
from safetensors.torch import load_file, save_file

from streamer.app import fetch
from streamer.config.load import PipelineConfig
from streamer.config.load import load as load_config_file
from streamer.config.served_checks import check_served
from streamer.errors import ModelError
from streamer.inference.models.adapter import adapted, adapter_problem
from streamer.inference.models.checks import check
from streamer.inference.models.inspect import look, look_with
from streamer.inference.models.loading import load_config, load_network
from streamer.inference.models.reference import Located
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from tests.answers.building import bert_tokenizer
from tests.peft_adapters import CASES, EXPECTED, FOLDER, Case, answers, make_adapter, make_base
from tests.unit.tasks_kit import outputs


def merged(case: Case, base: Path, adapter: Path) -> Any:
    """Our network, with the adapter merged."""
    located = adapted(Located(base, "base"), str(base), str(adapter), case.task)
    kind = getattr(transformers, f"AutoModel{case.head}")
    config = load_config(base)
    config.num_labels = 3
    return load_network(kind, base, config, dtype=torch.float32, task=case.task, model="base", adapter=located.adapter)


@pytest.mark.parametrize("name", CASES)
def test_a_merged_network_says_what_peft_says(name: str, tmp_path: Path) -> None:
    """Of each layer, with and without a head of its own, biases, tied weights and patterns. The numbers are those of
    peft's own network, which merges nothing."""
    case, base = CASES[name], make_base(CASES[name], tmp_path / "base")
    found = answers(merged(case, base, FOLDER / name))
    expected = json.loads((FOLDER / name / EXPECTED).read_text())
    assert [row[:40] + row[-40:] for row in found] == [pytest.approx(row, abs=2e-4) for row in expected]
    if not case.base_head:
        plain = getattr(transformers, f"AutoModel{case.head}").from_pretrained(base, num_labels=3)
        assert answers(plain)[0][:40] != pytest.approx(expected[0][:40], abs=1e-2)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_installed_peft_says_so_too(name: str, tmp_path: Path) -> None:
    """Where it is installed: an adapter that it writes here and now."""
    pytest.importorskip("peft")
    base = make_base(CASES[name], tmp_path / "base")
    expected = make_adapter(CASES[name], base, tmp_path / "adapter")
    found = answers(merged(CASES[name], base, tmp_path / "adapter"))
    assert found == [pytest.approx(row, abs=2e-4) for row in expected]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `classifier` was trained on."""
    return make_base(CASES["classifier"], tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A copy of `classifier`, to be changed."""
    return Path(shutil.copytree(FOLDER / "classifier", tmp_path / "adapter"))


def edit(adapter: Path, **fields: Any) -> None:
    """Other fields of its configuration."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', and only LORA"),
        ({"use_dora": True}, "use_dora is true"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which changes the model's own weights"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication is not supported"),
        ({"of_a_later_release": 3}, "of_a_later_release is not supported"),
        ({"target_modules": "all-linear"}, "write the list of modules"),
        ({"target_modules": "("}, r"target_modules has '\(', which is no regular expression"),
        ({"target_modules": ["query", "value"]}, r"no target_modules names bert\.\S+dense, and adapter_model"),
        ({"target_modules": ["query", "value", "dense", "key"]}, "target_modules names .*key, and .* lacks weights"),
        ({"target_modules": ["query", "value", "dense", "LayerNorm"]}, "LoRA of a LayerNorm is not supported"),
        ({"r": 4}, "matrix A of bert.* has the shape .*, and r in adapter_config.json"),
        ({"r": 0}, "r and rank_pattern must be at least 1"),
        ({"lora_alpha": "much"}, r"adapter_config\.json: .*lora_alpha"),
        ({"modules_to_save": ["classifier", "nothing"]}, "modules_to_save names nothing, which the model has not"),
        ({"modules_to_save": None}, "has classifier.bias, which no field of adapter_config.json names"),
        ({"bias": "lora_only"}, r"bias asks for .*bias, and adapter_model\.safetensors lacks it"),
        ({"task_type": "CAUSAL_LM"}, "task_type is CAUSAL_LM, and the task is text-classification"),
        ({"task_type": "OTHER"}, "task_type 'OTHER' is unknown"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(
    base: Path, adapter: Path, fields: dict[str, Any], words: str
) -> None:
    """With the file and the field."""
    edit(adapter, **fields)
    with pytest.raises(ModelError, match=words) as caught:
        merged(CASES["classifier"], base, adapter)
    assert str(adapter) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("base_model.model.bert.nothing.lora_A.weight", torch.ones(2, 2), "and the model no bert.nothing"),
        ("base_model.model.bert.pooler.dense.bias", torch.ones(16), "which no field of adapter_config.json names"),
        ("bert.pooler.dense.bias", torch.ones(16), "does not begin with base_model.model"),
        ("base_model.model.classifier.bias", torch.full((3,), torch.nan), "classifier.bias has NaN or infinity"),
        ("base_model.model.classifier.bias", torch.ones(3, dtype=torch.int8), "is of I8, and must be of"),
        (
            "base_model.model.classifier.weight",
            torch.ones(5, 16),
            r"has the shape \(5, 16\).*\(id2label or num_labels\)",
        ),
    ],
)
def test_a_tensor_that_has_no_place_is_refused(
    base: Path, adapter: Path, name: str, tensor: torch.Tensor, words: str
) -> None:
    """Each is named."""
    file = adapter / "adapter_model.safetensors"
    save_file(load_file(file) | {name: tensor}, file)
    with pytest.raises(ModelError, match=words):
        merged(CASES["classifier"], base, adapter)


def test_weights_that_can_run_code_are_refused(base: Path, adapter: Path) -> None:
    """As those of models are."""
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"only in adapter_model\.bin, which can run code"):
        merged(CASES["classifier"], base, adapter)


def test_an_adapter_for_another_model_is_refused(
    base: Path, adapter: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """By the name and the commit of the hub; what a directory is nobody knows, and that is said."""
    commit, other = "a" * 40, "b" * 40
    located = Located(base, "acme/base")
    edit(adapter, revision=commit)
    assert adapted(located, f"acme/base@{commit}", str(adapter), "rerank").name == "acme/base+adapter"
    with pytest.raises(ModelError, match=f"revision is {commit}, and the model's is {other}"):
        adapted(located, f"acme/base@{other}", str(adapter), "rerank")
    with pytest.raises(ModelError, match="base_model_name_or_path is acme/base, and the model is acme/other"):
        adapted(located, f"acme/other@{commit}", str(adapter), "rerank")
    assert not caplog.records
    adapted(Located(tmp_path, "copy"), str(tmp_path), str(adapter), "rerank")
    assert "nothing tells whether copy is that model" in caplog.text


@pytest.mark.parametrize(
    ("file", "ours", "theirs"),
    [
        ("tokenizer.json", '{"model": {"vocab": {"a": 0}}}', '{"model": {"vocab": {"a": 1}}}'),
        ("chat_template.jinja", "{{ a }}", "{{ b }}"),
        ("modules.json", '[{"type": "A", "path": ""}]', '[{"type": "B", "path": ""}]'),
    ],
)
def test_files_of_texts_that_differ_from_the_models_are_refused(
    base: Path, adapter: Path, tmp_path: Path, file: str, ours: str, theirs: str
) -> None:
    """The model's are read, and the adapter may have been trained with its own."""
    model = Path(shutil.copytree(base, tmp_path / "base"))
    (model / file).write_text(ours)
    (adapter / file).write_text(ours)
    merged_into = Located(model, "base")
    assert adapted(merged_into, str(model), str(adapter), "rerank").adapter is not None
    (adapter / file).write_text(theirs)
    with pytest.raises(ModelError, match=f"{file} differs from that of the model"):
        adapted(merged_into, str(model), str(adapter), "rerank")


# --- what a user sees ------------------------------------------------------------------------------------------------


def test_a_pipelines_answers_carry_the_digest_of_both(tmp_path: Path) -> None:
    """The worker's card, what `streamer model inspect` says, and answers that are the adapter's."""
    base = make_base(CASES["classifier"], tmp_path / "base")
    bert_tokenizer(base, model_max_length=16)
    plain, other = (
        load(WorkerSpec("test", "text-classification", str(base), adapter, dtype="float32", backend="torch"))
        for adapter in ("", str(FOLDER / "classifier"))
    )
    assert other.card.name == "base+classifier"
    assert plain.card.revision != other.card.revision
    assert outputs(plain, ["good"]) != outputs(other, ["good"])
    about = look_with(look(str(base)), str(base), str(FOLDER / "classifier"), "text-classification")
    assert about.revision == other.card.revision
    assert about.adapter is not None
    assert about.adapter.rank == 2


def test_an_adapter_of_the_hub_is_downloaded_with_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the pipeline allows it."""
    asked: list[str] = []
    monkeypatch.setattr(fetch, "fetch", asked.append)
    given: dict[str, Any] = {"task": "scoring", "model": f"acme/base@{'a' * 40}", "input": ["in"], "output": "out"}
    for allowed in (False, True):
        fetch.fetch_model(PipelineConfig(**given, adapter=f"acme/tuned@{'b' * 40}", allow_downloads=allowed))
    assert asked == [f"acme/base@{'a' * 40}", f"acme/tuned@{'b' * 40}"]


def test_a_configured_adapter_lies_beside_its_file(tmp_path: Path) -> None:
    """Names are relative to the file. A model that is no directory of files takes none."""
    (tmp_path / "streamer.toml").write_text(
        '[pipelines.a]\ntask = "scoring"\nmodel = "base"\nadapter = "tuned"\ninput = "in"\noutput = "out"\n'
    )
    pipeline = load_config_file(tmp_path / "streamer.toml", {}).pipelines["a"]
    assert pipeline.adapter == str(tmp_path / "tuned")
    problem = adapter_problem(pipeline.adapter, str(FOLDER), pipeline.task)
    assert problem.startswith(f"adapter '{tmp_path / 'tuned'}' is not a directory")
    assert [place for place, _ in check(WorkerSpec("a", "x", "builtin:null", pipeline.adapter))] == [("adapter",)]
    served = structs.replace(pipeline, model="http://llm:8000/v1", backend="openai")
    assert [field for field, _ in check_served(served)] == ["adapter"]
