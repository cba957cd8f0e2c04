"""Heads, labels, weights and what stands beside them: served as the files say, or refused by file and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from tests.answers import references
from tests.answers.building import (
    BERT,
    ENTITIES,
    GPT2,
    LABELS,
    READS,
    VOCABULARY,
    Files,
    bert_tokenizer,
    edit,
    gpt_tokenizer,
    network,
)
from tests.answers.references import Answers
from tests.answers.rows import Row, classified, embedded, filled, likely, refused, reranked, tagged
from tests.answers.table_language_models import LLAMA_FILES
from tests.answers.table_padding import built
from tests.answers.table_seq2seq import BART_FILES, T5_FILES
from tests.answers.table_tokenizers import edited

_CLASSIFIER: Final = "ForSequenceClassification"
_WEIGHTS: Final = "model.safetensors"
Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def reweighed(path: Path, change: Change, *, metadata: bool = True) -> None:
    """The weights as `change` leaves them."""
    from safetensors.torch import load_file, save_file

    weights = change(load_file(path / _WEIGHTS))
    save_file(weights, path / _WEIGHTS, metadata={"format": "pt"} if metadata else None)


def _lacking(*words: str) -> Change:
    return lambda weights: {name: own for name, own in weights.items() if not any(word in name for word in words)}


def _configured(name: str, head: str = _CLASSIFIER, without: tuple[str, ...] = (), **fields: Any) -> Files:
    """BERT with other fields in config.json."""
    return edited(name, head, lambda path: edit(path / "config.json", *without, **fields), **LABELS)


def _sharded(path: Path, *, missing: bool = False) -> None:
    import transformers

    made = transformers.AutoModelForSequenceClassification.from_pretrained(path)
    (path / _WEIGHTS).unlink()
    made.save_pretrained(path, max_shard_size="20KB")
    shards = sorted(path.glob("*.safetensors"))
    assert len(shards) > 2
    if missing:
        shards[1].unlink()


def _pointer(path: Path) -> None:
    """What git leaves where git-lfs is not installed."""
    (path / _WEIGHTS).write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 267844284\n"
    )


def _pickled(path: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(path / _WEIGHTS), path / "pytorch_model.bin")
    (path / _WEIGHTS).unlink()


def _halved(path: Path, dtype: torch.dtype) -> None:
    """Stored in another dtype, as config.json says."""
    reweighed(path, lambda weights: {name: own.to(dtype) for name, own in weights.items()})
    edit(path / "config.json", dtype=str(dtype).removeprefix("torch."))


# --- adapters ---

_RANK: Final = 2
_LORA: Final[dict[str, Any]] = {
    "peft_type": "LORA",
    "r": _RANK,
    "lora_alpha": 8,
    "target_modules": ["query"],
    "task_type": "SEQ_CLS",
}


def _adapter(path: Path) -> None:
    """A LoRA adapter, as peft saves it, and its base in a folder beside it."""
    from safetensors.torch import save_file

    base = path.parent / f"{path.name}-base"
    base.mkdir()
    bert_tokenizer(base)
    network(base, "bert", _CLASSIFIER, **BERT, **LABELS)
    bert_tokenizer(path)
    torch.manual_seed(1)
    weights = {}
    for layer in range(2):
        name = f"base_model.model.bert.encoder.layer.{layer}.attention.self.query"
        weights[f"{name}.lora_A.weight"] = torch.randn(_RANK, 32)
        weights[f"{name}.lora_B.weight"] = torch.randn(32, _RANK)
    save_file(weights, path / "adapter_model.safetensors", metadata={"format": "pt"})
    (path / "adapter_config.json").write_text(json.dumps({**_LORA, "base_model_name_or_path": str(base)}))


def _adapted(path: Path, limit: int) -> Answers:
    """The base with the adapter's products added to its weights: W + B·A·alpha/r."""
    from safetensors.torch import load_file

    base = path.parent / f"{path.name}-base"
    weights = load_file(path / "adapter_model.safetensors")
    whole, _ = references.opened(base, _CLASSIFIER)
    with torch.no_grad():
        for number, layer in enumerate(whole.bert.encoder.layer):
            name = f"base_model.model.bert.encoder.layer.{number}.attention.self.query"
            product = weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"]
            layer.attention.self.query.weight += product * _LORA["lora_alpha"] / _RANK
    merged = path.parent / f"{path.name}-merged"
    whole.save_pretrained(merged)
    bert_tokenizer(merged)
    return references.text_classification(merged, limit)


def _unnamed(name: str, **fields: Any) -> Files:
    """Four labels, of which config.json says nothing but `fields`."""
    return edited(
        name, _CLASSIFIER, lambda path: edit(path / "config.json", "id2label", "label2id", **fields), num_labels=4
    )


_FIVE: Final = {str(number): f"L{number}" for number in range(5)}
_NAMED: Final = {"id2label": {0: "x", 1: "y"}, "label2id": {"x": 0, "y": 1}}
# As the first BERTs are on the hub: all of pretraining's weights, by the name of its one head.
_AS_MASKED: Final = {"architectures": ["BertForMaskedLM"]}
_MODERN: Final = {**BERT, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
_JINA: Final = {
    "architectures": ["JinaBertForMaskedLM"],
    "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"},
}
_NOMIC: Final = {
    "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
    "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
}


def _projected(path: Path) -> None:
    """As ColBERT's checkpoints: BERT, and a projection of each token's vector."""
    reweighed(path, lambda weights: {**weights, "linear.weight": torch.ones(8, 32)})
    edit(path / "config.json", architectures=["HF_ColBERT"])


def _nomic(path: Path) -> None:
    bert_tokenizer(path)
    network(path, "nomic_bert", "", **BERT)
    edit(path / "config.json", auto_map=_NOMIC)


def _mamba2(path: Path) -> None:
    gpt_tokenizer(path)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8}
    network(path, "mamba2", "ForCausalLM", **shape, head_dim=8, n_groups=1, expand=2, chunk_size=8)
    edit(path / "config.json", time_step_limit=[0.0, float("inf")])


ROWS: Final[list[Row]] = [
    # labels
    classified(edited("one-label", _CLASSIFIER, lambda path: None, num_labels=1), activation="sigmoid"),
    classified(
        edited("regression", _CLASSIFIER, lambda path: None, num_labels=1, problem_type="regression"),
        activation="none",
    ),
    classified(
        edited("regression-of-three", _CLASSIFIER, lambda path: None, problem_type="regression", **LABELS),
        activation="none",
    ),
    classified(
        edited("multi-label", _CLASSIFIER, lambda path: None, problem_type="multi_label_classification", **LABELS),
        activation="sigmoid",
    ),
    classified(edited("unnamed", _CLASSIFIER, lambda path: None, num_labels=4)),
    refused(
        _unnamed("unnamed-old", _num_labels=4), "text-classification", "num_labels|id2label|classifier|config.json"
    ),
    tagged(edited("unnamed-tags", "ForTokenClassification", lambda path: None, num_labels=3)),
    reranked(edited("cross-encoder", _CLASSIFIER, lambda path: None, num_labels=1)),
    refused(
        edited("cross-encoder-of-three", _CLASSIFIER, lambda path: None, **LABELS),
        "rerank",
        "one output|num_labels|id2label",
    ),
    refused(
        edited("no-entailment", _CLASSIFIER, lambda path: None, **LABELS),
        "zero-shot-classification",
        "config.json",
        "entail",
    ),
    refused(
        _configured("other-count", id2label=_FIVE, label2id={label: int(number) for number, label in _FIVE.items()}),
        "text-classification",
        "classifier|num_labels|id2label",
    ),
    # heads
    refused(
        edited("pooler", _CLASSIFIER, lambda path: reweighed(path, _lacking("pooler")), **LABELS),
        "text-classification",
        "pooler",
    ),
    refused(
        edited("pooler-rerank", _CLASSIFIER, lambda path: reweighed(path, _lacking("pooler")), num_labels=1),
        "rerank",
        "pooler",
    ),
    embedded(edited("pooler-vectors", "", lambda path: reweighed(path, _lacking("pooler")))),
    refused(edited("projected-vectors", "", _projected), "embedding", "linear.weight", "HF_ColBERT"),
    embedded(edited("renamed-vectors", "", lambda path: edit(path / "config.json", architectures=["AcmeBert"]))),
    embedded(edited("masked-vectors", "ForMaskedLM", lambda path: None)),
    refused(edited("no-head", "", lambda path: None), "text-classification", "classifier|BertModel"),
    refused(edited("masked-classes", "ForMaskedLM", lambda path: None), "text-classification", "classifier|MaskedLM"),
    refused(
        edited("classes-as-tags", _CLASSIFIER, lambda path: None, **LABELS),
        "token-classification",
        "BertForSequenceClassification",
    ),
    refused(
        built("modern-classes-as-tags", bert_tokenizer, "modernbert", _CLASSIFIER, **_MODERN, **LABELS),
        "token-classification",
        "ModernBertForSequenceClassification",
    ),
    refused(
        built("modern-tags-as-classes", bert_tokenizer, "modernbert", "ForTokenClassification", **_MODERN, **ENTITIES),
        "text-classification",
        "ModernBertForTokenClassification",
    ),
    refused(
        edited("choices-as-classes", "ForMultipleChoice", lambda path: None),
        "text-classification",
        "BertForMultipleChoice|classifier",
    ),
    refused(
        edited("choices-as-rerank", "ForMultipleChoice", lambda path: None),
        "rerank",
        "BertForMultipleChoice|one output",
    ),
    refused(
        edited("tags-as-answers", "ForTokenClassification", lambda path: None, **_NAMED),
        "question-answering",
        "BertForTokenClassification|qa_outputs",
    ),
    refused(edited("masked-scores", "ForMaskedLM", lambda path: None), "scoring", "BertForMaskedLM"),
    refused(edited("masked-writes", "ForMaskedLM", lambda path: None), "text-generation", "BertForMaskedLM"),
    refused(
        built("gpt2-classes-as-scores", partial(gpt_tokenizer, pad_token="<a>"), "gpt2", _CLASSIFIER, **GPT2, **LABELS),
        "scoring",
        "GPT2ForSequenceClassification",
    ),
    refused(BART_FILES, "text-generation", "BartForConditionalGeneration|lm_head|is_encoder_decoder"),
    refused(BART_FILES, "scoring", "BartForConditionalGeneration|lm_head|is_encoder_decoder"),
    refused(T5_FILES, "scoring", "T5ForConditionalGeneration|config.json|of t5"),
    refused(LLAMA_FILES, "summarization", "LlamaForCausalLM|config.json|of llama"),
    refused(LLAMA_FILES, "fill-mask", "mask"),
    refused(LLAMA_FILES, "rerank", "LlamaForCausalLM", "ForSequenceClassification"),
    filled(edited("masked", "ForMaskedLM", lambda path: None)),
    filled(edited("pretrained", "ForPreTraining", lambda path: edit(path / "config.json", **_AS_MASKED))),
    # weights
    classified(edited("half", _CLASSIFIER, partial(_halved, dtype=torch.float16), **LABELS)),
    classified(edited("bfloat16", _CLASSIFIER, partial(_halved, dtype=torch.bfloat16), **LABELS)),
    classified(edited("shards", _CLASSIFIER, _sharded, **LABELS)),
    classified(edited("no-metadata", _CLASSIFIER, lambda path: reweighed(path, dict, metadata=False), **LABELS)),
    refused(
        edited("missing-shard", _CLASSIFIER, partial(_sharded, missing=True), **LABELS),
        "text-classification",
        "model-00002-of-",
    ),
    refused(edited("pointer", _CLASSIFIER, _pointer, **LABELS), "text-classification", _WEIGHTS, "LFS"),
    refused(
        edited(
            "truncated",
            _CLASSIFIER,
            lambda path: (path / _WEIGHTS).write_bytes((path / _WEIGHTS).read_bytes()[:5000]),
            **LABELS,
        ),
        "text-classification",
        _WEIGHTS,
    ),
    refused(edited("pickled", _CLASSIFIER, _pickled, **LABELS), "text-classification", "pytorch_model.bin"),
    refused(
        edited(
            "other-name",
            _CLASSIFIER,
            lambda path: (path / _WEIGHTS).rename(path / "model.fp16.safetensors"),
            **LABELS,
        ),
        "text-classification",
        "model.fp16.safetensors",
    ),
    refused(
        edited(
            "parallel",
            _CLASSIFIER,
            lambda path: reweighed(path, lambda weights: {f"module.{name}": own for name, own in weights.items()}),
            **LABELS,
        ),
        "text-classification",
        r"module\.",
    ),
    refused(
        _configured("quantised", quantization_config={"quant_method": "bitsandbytes"}),
        "text-classification",
        "config.json",
        "quantization_config",
    ),
    refused(
        _configured("gptq", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128}),
        "text-classification",
        "config.json",
        "quantization_config",
    ),
    Row(
        Files("adapter", _adapter),
        "text-classification",
        lambda path: _adapted(path, READS),
        events=classified(BART_FILES).events,
        options={"top_k": 99},
        refused=("adapter_config.json",),
        may_refuse=True,
    ),
    refused(_configured("no-type", without=("model_type",)), "text-classification", "config.json", "model_type"),
    refused(
        _configured("unknown-type", model_type="bert-of-tomorrow"),
        "text-classification",
        "config.json",
        "model_type|bert-of-tomorrow",
    ),
    refused(
        edited("broken-config", "", lambda path: (path / "config.json").write_text('{"model_type": "bert",')),
        "embedding",
        "config.json",
    ),
    # what is harmless, and what is not
    classified(_configured("autoset", _attn_implementation_autoset=True)),
    classified(_configured("eager", _attn_implementation="eager")),
    classified(_configured("sdpa", attn_implementation="sdpa")),
    embedded(Files("auto-map", _nomic)),
    likely(Files("infinity", _mamba2)),
    refused(
        edited("other-code", "", lambda path: edit(path / "config.json", **_JINA)),
        "embedding",
        "config.json",
        "JinaBert|auto_map",
    ),
    refused(
        _configured("kernel", _attn_implementation="kernels-community/flash-attn2"),
        "text-classification",
        "config.json",
        "attn_implementation",
    ),
    # options
    refused(edited("wide", "", lambda path: None), "embedding", "dimensions", "32", options={"dimensions": 64}),
    refused(edited("colour", "", lambda path: None), "embedding", "colour", options={"colour": 1}),
    refused(edited("median", "", lambda path: None), "embedding", "pooling", "mean", options={"pooling": "median"}),
]
