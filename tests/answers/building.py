"""Model directories of the table: tiny networks with random weights of wide spread, and tokenizers of whole words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.answers.texts import WORDS

BERT_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GPT_SPECIAL: Final = ("<end>", "<unk>", "<a>", "<b>", "<c>")
NAMES: Final = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
VOCABULARY: Final = 5 + len(WORDS)
READS: Final = 64
"""Tokens that the models of this table read, where nothing else is said."""
BERT: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": READS,
    "pad_token_id": 0,
}
GPT2: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": READS,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LABELS: Final[dict[str, Any]] = {
    "id2label": {0: "neg", 1: "neu", 2: "pos"},
    "label2id": {"neg": 0, "neu": 1, "pos": 2},
}
NLI_LABELS: Final[dict[str, Any]] = {
    "id2label": {0: "contradiction", 1: "neutral", 2: "entailment"},
    "label2id": {"contradiction": 0, "neutral": 1, "entailment": 2},
}
ENTITIES: Final[dict[str, Any]] = {
    "id2label": dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))),
    "label2id": {label: number for number, label in enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))},
}


@dataclass(frozen=True)
class Files:
    """A model directory: its name, and what writes it into an empty folder. Those of one `network` differ in what
    stands before and after it; "" is one of its own."""

    name: str
    make: Callable[[Path], object]
    network: str = ""


def words_tokenizer(
    path: Path,
    special: Sequence[str] = BERT_SPECIAL,
    template: str = "[CLS] $A [SEP]",
    pair: str = "",
    **fields: Any,
) -> Any:
    """A tokenizer of whole words as transformers saves it. `template` is that of single texts, with types behind
    colons; "" has none. The first five of the vocabulary are `special`, the second of them the unknown word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate([*special, *WORDS])}, special[1]))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        used = [word.split(":")[0] for word in template.split() if not word.startswith("$")]
        raw.post_processor = processors.TemplateProcessing(
            single=template,
            pair=pair or f"{template} $B:1 {used[-1]}:1",
            special_tokens=[(word, raw.token_to_id(word)) for word in dict.fromkeys(used)],
        )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw, **{"unk_token": special[1], "model_max_length": READS, **fields}
    )
    fast.save_pretrained(path)
    return fast


def bert_tokenizer(path: Path, **fields: Any) -> Any:
    """BERT's names, template and types."""
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return words_tokenizer(path, **{**NAMES, "model_input_names": names, **fields})


def gpt_tokenizer(path: Path, **fields: Any) -> Any:
    """Nothing before and after a text, an end token, and no padding unless `fields` name it."""
    names = ["input_ids", "attention_mask"]
    return words_tokenizer(
        path, GPT_SPECIAL, "", **{"unk_token": "<unk>", "eos_token": "<end>", "model_input_names": names, **fields}
    )


def network(path: Path, architecture: str, head: str, *, spread: float = 4, seed: int = 0, **config: Any) -> Any:
    """A network of the Auto class `head` ("" is the bare one), saved. Weights are `spread` times wider than they are
    initialised, biases and norms random too: different texts get clearly different answers."""
    import torch
    import transformers

    torch.manual_seed(seed)
    made = getattr(transformers, f"AutoModel{head}").from_config(
        transformers.AutoConfig.for_model(architecture, **config)
    )
    widen(made.eval(), spread)
    made.save_pretrained(path)
    return made


def widen(made: Any, spread: float) -> None:
    """In place."""
    import torch

    with torch.no_grad():
        for weights in made.parameters():
            if weights.ndim > 1:
                weights.mul_(spread)
            elif weights.ndim == 1 and weights.is_floating_point():
                weights.add_(0.05 * torch.randn_like(weights))


def edit(file: Path, *without: str, **changes: Any) -> None:
    """Set fields of a JSON file, and drop those of `without`; Infinity stays as Python writes it."""
    fields = json.loads(file.read_text()) if file.is_file() else {}
    kept = {name: value for name, value in {**fields, **changes}.items() if name not in without}
    file.write_text(json.dumps(kept))
