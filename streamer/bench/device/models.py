"""Tiny models with random weights, one for each family of tasks, and events for them. The tokenizer is the demo's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamer.bench.device.speed import TOKENIZER

MAX_TOKENS = 128
WIDTH, INNER, LAYERS, HEADS = 128, 256, 2, 2
_SPREAD = 4
_START, _END, _PADDING = 2, 3, 0

Event = tuple[str, str | None, dict[str, Any]]

_TEXTS = (
    "the delivery was late and nobody answered the telephone",
    "fine",
    "we went to the harbour, and the weather was good all week: would come again",
    "why would anyone pay forty for a cable that breaks within a week? " * 3,
    "they made it work in the end",
    "one two three four five six seven eight nine ten eleven twelve",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A family's model: its task, the Auto class behind `AutoModel`, the architecture and its labels; what an event
    has beside its text; what else is written beside the network."""

    task: str
    head: str = ""
    architecture: str = "bert"
    labels: tuple[str, ...] = ()
    pair: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    write: str = "{}"
    """The text, as a format."""
    after: Callable[[Path], None] | None = None

    @property
    def events(self) -> list[Event]:
        """Texts of mixed lengths."""
        return [(self.write.format(text), self.pair, dict(self.params)) for text in _TEXTS]


def make(kind: Kind, path: Path) -> Path:
    """Its files. Weights are wide, so that different texts get clearly different answers."""
    import torch
    import transformers

    path.mkdir(parents=True, exist_ok=True)
    size = save_tokenizer(path, types=kind.architecture == "bert")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind.architecture, vocab_size=size, **_shape(kind))
    network: Any = getattr(transformers, f"AutoModel{kind.head}").from_config(config)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim > 1:
                weights.mul_(_SPREAD)
            else:
                weights.add_(0.05 * torch.randn_like(weights))
    network.save_pretrained(path)
    if kind.after is not None:
        kind.after(path)
    return path


def save_tokenizer(path: Path, *, types: bool = False, max_tokens: int = MAX_TOKENS) -> int:
    """The demo's, with tokens that begin and end a text; returns how many it has."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        TOKENIZER, local_files_only=True, bos_token="[CLS]", eos_token="[SEP]"
    )
    tokenizer.model_max_length = max_tokens
    tokenizer.model_input_names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    tokenizer.save_pretrained(path)
    return len(tokenizer)


def _shape(kind: Kind) -> dict[str, Any]:
    ends = {"pad_token_id": _PADDING, "bos_token_id": _START, "eos_token_id": _END}
    if kind.architecture == "t5":
        own = {"d_model": WIDTH, "d_kv": WIDTH // HEADS, "d_ff": INNER, "num_layers": LAYERS, "num_heads": HEADS}
        return own | {"pad_token_id": _PADDING, "eos_token_id": _END, "decoder_start_token_id": _PADDING}
    # RoBERTa numbers positions from the padding token on.
    offset = 1 if kind.architecture == "roberta" else 0
    shape: dict[str, Any] = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": MAX_TOKENS + offset,
        **ends,
    }
    if kind.labels:
        shape["id2label"] = dict(enumerate(kind.labels))
        shape["label2id"] = {label: number for number, label in enumerate(kind.labels)}
    if kind.architecture == "modernbert":
        shape |= {"cls_token_id": _START, "sep_token_id": _END, "local_attention": 16, "global_attn_every_n_layers": 2}
    return shape


def _sentence_modules(path: Path) -> None:
    """Mean of the tokens, a dense layer, and vectors of length 1."""
    import torch
    from safetensors.torch import save_file

    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules = [
        {"idx": number, "name": str(number), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for number, (folder, kind) in enumerate(kinds.items())
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MAX_TOKENS, "do_lower_case": False}))
    configs: dict[str, dict[str, Any]] = {
        "1_Pooling": {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True},
        "2_Dense": {
            "in_features": WIDTH,
            "out_features": WIDTH // 2,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    }
    for folder, config in configs.items():
        (path / folder).mkdir()
        (path / folder / "config.json").write_text(json.dumps(config))
    weights = {"linear.weight": 0.2 * torch.randn(WIDTH // 2, WIDTH), "linear.bias": torch.zeros(WIDTH // 2)}
    save_file(weights, path / "2_Dense" / "model.safetensors")


_FEELINGS = ("negative", "neutral", "positive")
_ANSWERED = {"max_new_tokens": 12}
KINDS: Mapping[str, Kind] = {
    "embedding": Kind("embedding"),
    "sentence modules": Kind("embedding", after=_sentence_modules),
    "RoBERTa": Kind("text-classification", "ForSequenceClassification", "roberta", _FEELINGS),
    "ModernBERT": Kind("embedding", architecture="modernbert"),
    "text-classification": Kind("text-classification", "ForSequenceClassification", labels=_FEELINGS),
    "token-classification": Kind("token-classification", "ForTokenClassification", labels=("O", "B-PER", "I-PER")),
    "question-answering": Kind(
        "question-answering", "ForQuestionAnswering", labels=("start", "end"), params={"question": "who was late?"}
    ),
    "zero-shot-classification": Kind(
        "zero-shot-classification",
        "ForSequenceClassification",
        labels=("contradiction", "neutral", "entailment"),
        params={"candidate_labels": ["travel", "a complaint", "sport"]},
    ),
    "rerank": Kind("rerank", "ForSequenceClassification", labels=("relevant",), pair="the weather at the harbour"),
    "similarity": Kind("similarity", pair="the weather at the harbour"),
    "fill-mask": Kind("fill-mask", "ForMaskedLM", write="{} and [MASK]"),
    "text2text-generation": Kind("text2text-generation", "ForSeq2SeqLM", "t5", params=_ANSWERED),
    "scoring": Kind("scoring", "ForCausalLM", "llama"),
    "text-generation": Kind("text-generation", "ForCausalLM", "llama", params=_ANSWERED),
    "text-generation with beams": Kind(
        "text-generation", "ForCausalLM", "llama", params=_ANSWERED, options={"num_beams": 2}
    ),
}
