"""Tiny models with random weights of many architectures and heads, and tokenizers of three kinds, as files.

The weights are spread wide, so that different texts get clearly different answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

VOCABULARY_TEXTS = (
    "the film was good but the music was awful and we did not love the plot",
    "Angela Merkel met Tim Cook in Paris on Tuesday, and Microsoft opened an office in Zürich",
    "die Lieferung kam pünktlich, aber das Gerät war beschädigt; wir haben es zurückgeschickt",
    "why would anyone pay forty euros for a cable that breaks within a week?",
    "naïve café été 東京 映画 こんにちは 🙂 0 1 2 3 4 5 6 7 8 9 ! ? . , ' - ( )",
    "This example is about travel, politics, sport or a complaint. The committee met to discuss the budget.",
)

BERT: Final = "bert"
ROBERTA: Final = "roberta"
DISTILBERT: Final = "distilbert"
MODERNBERT: Final = "modernbert"
DEBERTA: Final = "deberta-v2"
ELECTRA: Final = "electra"
MPNET: Final = "mpnet"
XLM_ROBERTA: Final = "xlm-roberta"
MOBILEBERT: Final = "mobilebert"

_KINDS = {
    BERT: "wordpiece",
    DISTILBERT: "wordpiece",
    ELECTRA: "wordpiece",
    MPNET: "wordpiece",
    MOBILEBERT: "wordpiece",
    ROBERTA: "bytes",
    MODERNBERT: "bytes",
    DEBERTA: "unigram",
    XLM_ROBERTA: "unigram",
}
_TAKES_TYPE_IDS = {BERT, ELECTRA, DEBERTA, MOBILEBERT}


def tiny(
    path: Path,
    architecture: str,
    head: str,
    *,
    labels: tuple[str, ...] = ("negative", "neutral", "positive"),
    max_tokens: int = 48,
    spread: float = 0.5,
    layers: int = 2,
    seed: int = 0,
    **config: Any,
) -> Path:
    """A model of `architecture` with `head` (an Auto class without `AutoModel`: `ForTokenClassification`, or "")."""
    import torch
    import transformers

    path.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_tokenizer(path, architecture, max_tokens)
    # RoBERTa and its kin number positions from the padding token on.
    offset = 2 if architecture in (ROBERTA, XLM_ROBERTA, MPNET) else 0
    config = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": max_tokens + offset,
        "initializer_range": spread,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "cls_token_id": 0,
        "sep_token_id": 2,
        **_OWN.get(architecture, {}),
        **config,
    }
    torch.manual_seed(seed)
    made = getattr(transformers, f"AutoModel{head}").from_config(
        transformers.AutoConfig.for_model(architecture, **config)
    )
    for parameter in made.parameters():  # biases and norms start at 0 and 1: let them matter too
        if parameter.ndim == 1:
            parameter.data += 0.2 * spread * torch.randn_like(parameter)
    made.save_pretrained(path)
    return path


_OWN: Final[dict[str, dict[str, Any]]] = {
    DISTILBERT: {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ELECTRA: {"embedding_size": 32},
    MOBILEBERT: {"embedding_size": 32, "intra_bottleneck_size": 32, "num_feedforward_networks": 1},
    DEBERTA: {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    MODERNBERT: {"global_attn_every_n_layers": 2, "local_attention": 16},
}


def _write_tokenizer(path: Path, architecture: str, max_tokens: int) -> int:
    """Special tokens stand at the same places in all: start 0, padding 1, end 2, unknown 3, mask 4. Nothing is
    trained: trainers break ties by chance."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    kind = _KINDS[architecture]
    start, pad, end, unknown, mask = special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == "wordpiece":
        start, pad, end, unknown, mask = special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
        splitter: Any = pre_tokenizers.BertPreTokenizer()
        words, letters, stems = _pieces([text.lower() for text in VOCABULARY_TEXTS], splitter)
        inner = [f"##{piece}" for piece in (*letters, *(word[-3:] for word in words))]
        tokenizer = Tokenizer(models.WordPiece(_numbered(special, letters, stems, inner), unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        tokenizer.decoder = decoders.WordPiece()
    elif kind == "bytes":
        splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
        words, _, _ = _pieces(VOCABULARY_TEXTS, splitter)
        pairs = Counter((one, two) for word in words for one, two in pairwise(word))
        merges = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:150]
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE(_numbered(special, alphabet, ["".join(pair) for pair in merges]), merges))
        tokenizer.decoder = decoders.ByteLevel()
    else:
        splitter = pre_tokenizers.Metaspace()
        _, letters, stems = _pieces(VOCABULARY_TEXTS, splitter)
        pieces = _numbered(special, letters, stems)
        scored = [(piece, 0.0 if piece in special else -9.0 + len(piece)) for piece in pieces]
        tokenizer = Tokenizer(models.Unigram(scored, unk_id=3))
        tokenizer.decoder = decoders.Metaspace()
    tokenizer.pre_tokenizer = splitter
    if kind == "bytes":
        tokenizer.post_processor = processors.RobertaProcessing((end, 2), (start, 0), add_prefix_space=False)
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A {end}",
            pair=f"{start} $A {end} $B:1 {end}:1",
            special_tokens=[(start, 0), (end, 2)],
        )
    type_ids = ["token_type_ids"] if architecture in _TAKES_TYPE_IDS else []
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        pad_token=pad,
        cls_token=start,
        sep_token=end,
        mask_token=mask,
        model_max_length=max_tokens,
        model_input_names=["input_ids", *type_ids, "attention_mask"],
    )
    fast.save_pretrained(path)
    return len(tokenizer.get_vocab())


def _pieces(texts: Sequence[str], splitter: Any) -> tuple[list[str], list[str], list[str]]:
    """All words of the texts, all letters, and the words cut to four letters."""
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    return words, sorted(set("".join(words))), sorted({word[:4] for word in words})


def _numbered(*groups: Sequence[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(dict.fromkeys(chain.from_iterable(groups)))}
