"""LoRA adapters as peft writes them, over tiny networks whose weights are a formula, and what peft's own network says.

`python -m tests.peft_adapters [NAME]...` makes `tests/adapters` anew, and needs peft. So tests hold the merge to peft's
numbers where peft is not installed, too.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "adapters"
EXPECTED: Final = "expected.json"
_IDS: Final = [[5, 9, 17, 3, 30, 12, 44], [7, 1, 20, 33, 2, 2, 60]]


@dataclass(frozen=True)
class Case:
    """A base, the Auto class that its adapter is trained with, peft's fields, and the base's own head where it is
    another."""

    kind: str
    head: str
    fields: dict[str, Any]
    sizes: dict[str, Any] = field(default_factory=dict)
    base_head: str = ""
    task: str = "text-classification"


_CAUSAL: Final = {"head": "ForCausalLM", "task": "text-generation"}
_LLAMA: Final = {"num_key_value_heads": 2, "tie_word_embeddings": True}
CASES: Final = {
    "classifier": Case(
        "bert",
        "ForSequenceClassification",
        {"task_type": "SEQ_CLS", "r": 2, "lora_alpha": 6, "target_modules": ["query", "value", "dense"]}
        | {"rank_pattern": {"query": 3, "output.dense": 1}, "alpha_pattern": {"layer.1.*.query": 5}},
    ),
    "head-of-its-own": Case(
        "distilbert",
        "ForSequenceClassification",
        {"task_type": "SEQ_CLS", "r": 2, "lora_alpha": 3, "target_modules": ["q_lin", "lin2"]},
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
        base_head="ForMaskedLM",
    ),
    "biases": Case(
        "bert",
        "ForTokenClassification",
        {"task_type": "TOKEN_CLS", "r": 2, "lora_alpha": 2, "target_modules": ["key"], "bias": "all"},
        task="token-classification",
    ),
    "biases-of-targets": Case(
        "bert",
        "",
        {"task_type": "FEATURE_EXTRACTION", "r": 2, "lora_alpha": 2, "target_modules": ["key"], "bias": "lora_only"},
        task="embedding",
    ),
    "conv1d": Case(
        "gpt2",
        **_CAUSAL,
        fields={"task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["c_attn", "c_proj"]}
        | {"fan_in_fan_out": True, "use_rslora": True},
        sizes={"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16},
    ),
    "tied-embedding": Case(
        "gpt2",
        **_CAUSAL,
        fields={"task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["wte", "c_fc"]},
        sizes={"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16},
    ),
    "tied-head": Case(
        "llama",
        **_CAUSAL,
        fields={"task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj", "o_proj"]}
        | {"layers_to_transform": [1], "layers_pattern": "layers", "modules_to_save": ["lm_head"]},
        sizes=_LLAMA,
    ),
    "pattern": Case(
        "llama",
        **_CAUSAL,
        fields={"task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": r".*\.(up|down|gate)_proj"}
        | {"exclude_modules": r".*layers\.0\..*"},
        sizes=_LLAMA,
    ),
    "seq2seq": Case(
        "t5",
        "ForSeq2SeqLM",
        {"task_type": "SEQ_2_SEQ_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q", "v", "wo"]},
        {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0},
        task="translation",
    ),
    "untyped": Case(
        "llama",
        **_CAUSAL,
        fields={"r": 1, "lora_alpha": 7, "target_modules": ["embed_tokens", "k_proj"], "init_lora_weights": "gaussian"},
        sizes=_LLAMA | {"tie_word_embeddings": False},
    ),
}


def config_of(case: Case) -> Any:
    """The base's configuration."""
    from transformers import AutoConfig

    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 16, "num_labels": 3, "pad_token_id": 0}
    return AutoConfig.for_model(case.kind, **{**sizes, **case.sizes})


def make_base(case: Case, path: Path) -> Path:
    """The base's directory."""
    import transformers

    network = getattr(transformers, f"AutoModel{case.base_head or case.head}").from_config(config_of(case))
    _fill(network)
    network.save_pretrained(path)
    return path


def answers(network: Any) -> list[list[float]]:
    """What the network says of known ids, a row each."""
    import torch

    given = {"input_ids": torch.tensor(_IDS), "attention_mask": torch.ones(2, 7, dtype=torch.int64)}
    if network.config.is_encoder_decoder:
        given["decoder_input_ids"] = torch.tensor(_IDS)
    with torch.inference_mode():
        out = network.eval()(**given)
    found = out.logits if "logits" in out else out.last_hidden_state
    return found.flatten(1).tolist()  # type: ignore[no-any-return]


def make_adapter(case: Case, base: Path, path: Path) -> list[list[float]]:
    """Write an adapter by peft; returns what peft's network, not merged, says."""
    import peft
    import transformers

    network = getattr(transformers, f"AutoModel{case.head}").from_pretrained(base, num_labels=3)
    made = peft.get_peft_model(network, peft.LoraConfig(**case.fields))
    _fill(made, only_trained=True)
    made.save_pretrained(str(path))
    (path / "README.md").unlink(missing_ok=True)
    again = getattr(transformers, f"AutoModel{case.head}").from_pretrained(base, num_labels=3)
    return answers(peft.PeftModel.from_pretrained(again, path))


def _fill(network: Any, *, only_trained: bool = False) -> None:
    """With numbers of a formula, so that no release draws others."""
    import torch

    for place, (name, parameter) in enumerate(network.named_parameters()):
        if only_trained and not parameter.requires_grad:
            continue
        waves = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + place).view(parameter.shape)
        norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = (1 + 0.1 * waves if norm else 0.4 * waves).float()


def main() -> None:
    """Make all of them, or those that are named."""
    import tempfile

    for name, case in CASES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            base = make_base(case, Path(folder, "base"))
            expected = make_adapter(case, base, FOLDER / name)
        config = FOLDER / name / "adapter_config.json"
        fields = json.loads(config.read_text()) | {"base_model_name_or_path": "acme/base"}
        config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
        rows = [[round(number, 5) for number in row[:40] + row[-40:]] for row in expected]
        (FOLDER / name / EXPECTED).write_text(json.dumps(rows) + "\n")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
