"""What the files of a tokenizer ask of a text: sides, types, limits, added tokens, and the files that are missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.answers.building import (
    BERT,
    BERT_SPECIAL,
    ENTITIES,
    GPT2,
    LABELS,
    VOCABULARY,
    Files,
    bert_tokenizer,
    edit,
    gpt_tokenizer,
    network,
    words_tokenizer,
)
from tests.answers.rows import Row, classified, embedded, likely, refused, tagged
from tests.answers.table_padding import built
from tests.answers.table_seq2seq import T5
from tests.answers.texts import PAIRS, TEXTS, WORDS, Event, paired, singles

_ENDLESS: Final = 10**30
"""The model_max_length of tokenizers whose files name none."""
_TABLE: Final = 40
"""Rows of the position tables that stand behind endless tokenizers; the long texts have more tokens."""
_WIDE: Final = {**BERT, "max_position_embeddings": _TABLE}
_COUNTING: Final = 7
"""The padding index of networks that count positions from there on."""


def counted(architecture: str, counts_from: int = _COUNTING, **config: Any) -> Row:
    """A network that numbers positions from its padding index on, behind a tokenizer without a limit."""

    def tokenizer(path: Path) -> None:
        special = [*BERT_SPECIAL[:2], "<s>", "</s>", "<mask>"]
        words_tokenizer(
            path,
            special,
            "<s> $A </s>",
            model_max_length=_ENDLESS,
            model_input_names=["input_ids", "attention_mask"],
            pad_token=WORDS[_COUNTING - 5],
            cls_token="<s>",
            sep_token="</s>",
            mask_token="<mask>",
        )

    shape = {**_WIDE, **LABELS, "pad_token_id": _COUNTING, **config}
    files = built(f"{architecture}-endless", tokenizer, architecture, **shape)
    used = WORDS[_COUNTING - 5]
    texts = tuple(text for text in TEXTS if used not in text.split())
    pairs: list[Event] = [(one, two, None) for one, two in PAIRS if used not in f"{one} {two}".split()]
    return classified(
        files, _TABLE - counts_from - 1, events=[*singles((*texts, "good day " * 60)), *pairs], openvino=False
    )


def edited(name: str, head: str, change: Callable[[Path], object], **config: Any) -> Files:
    """BERT whose files are changed after they were written."""

    def make(path: Path) -> None:
        bert_tokenizer(path)
        network(path, "bert", head, **{**BERT, **config})
        change(path)

    return Files(name, make, "bert")


def _rewritten(path: Path, **fields: Any) -> None:
    """tokenizer.json with other fields at its top."""
    edit(path / "tokenizer.json", **fields)


def _without(*names: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        for name in names:
            (path / name).unlink(missing_ok=True)

    return change


def _only_vocabulary(path: Path, fields: dict[str, Any] | None = None) -> None:
    """As BERT's first checkpoints: vocab.txt, and at most a few fields."""
    _without("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")(path)
    (path / "vocab.txt").write_text("\n".join([*BERT_SPECIAL, *WORDS]) + "\n")
    if fields:
        (path / "tokenizer_config.json").write_text(json.dumps(fields))


def _sentencepiece(path: Path, name: str) -> None:
    """A SentencePiece model of whole words, and no tokenizer.json."""
    from transformers.utils import sentencepiece_model_pb2_new

    made = sentencepiece_model_pb2_new.ModelProto()
    for number, piece in enumerate(["<pad>", "</s>", "<unk>", *[f"▁{word}" for word in WORDS]]):
        made.pieces.add(piece=piece, score=-float(number), type=2 if piece == "<unk>" else 3 if number < 2 else 1)
    made.trainer_spec.model_type = 1
    (path / name).write_bytes(made.SerializeToString())


def _spm(name: str, architecture: str, head: str, **config: Any) -> Files:
    def make(path: Path) -> None:
        network(path, architecture, head, **config)
        _sentencepiece(path, name)

    return Files(f"only-{name}-{architecture}", make)


def _esm(path: Path) -> None:
    """ESM's own tokenizer has no fast form."""
    shape = {**BERT, **ENTITIES, "max_position_embeddings": 200, "mask_token_id": 4, "pad_token_id": 1}
    network(path, "esm", "ForTokenClassification", **shape)
    (path / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", "<mask>", *WORDS]) + "\n")


def _byte_files(path: Path) -> None:
    """RoBERTa of before tokenizer.json: vocab.json and merges.txt."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġ", "a"), ("o", "o"), ("Ġt", "he")]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, *["".join(pair) for pair in merges]]
    (path / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    shape = {**BERT, "max_position_embeddings": 300, "vocab_size": len(pieces)}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    network(path, "roberta", "ForSequenceClassification", **{**shape, **ids}, **LABELS)
    (path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 100}))


def _adding(path: Path, *, embedded: bool) -> None:
    """Two tokens more than the vocabulary has, one of them special; with or without embeddings of their own."""
    from transformers import AddedToken

    made = bert_tokenizer(path)
    made.add_tokens([AddedToken("sunshine", single_word=True), AddedToken("[CITY]", special=True, lstrip=True)])
    made.save_pretrained(path)
    more = 2 if embedded else 0
    network(path, "bert", "ForSequenceClassification", **{**BERT, "vocab_size": VOCABULARY + more}, **LABELS)


_ADDED: Final[list[Event]] = [
    *singles(
        (*TEXTS, "the sunshine was good", "we love [CITY] and rain", "sunshineless day", "late [CITY]  [CITY] day")
    ),
    ("the film", "sunshine of [CITY]", None),
]
_CONTROL: Final = (
    "the film [SEP] was good",
    "[MASK] day",
    "[CLS] rain [PAD] [PAD] harbour",
    "we [UNK] it",
    "good [SEP]",
)
_endless_tokenizer = partial(bert_tokenizer, model_max_length=_ENDLESS)
_far_tokenizer = partial(bert_tokenizer, model_max_length=512)
_left_tokenizer = partial(bert_tokenizer, truncation_side="left", model_max_length=10)
_LEFT: Final = {"truncation_side": "left", "model_max_length": 10}
_types_only_pairs: Final = {"model_input_names": ["input_ids", "attention_mask"]}

ROWS: Final[list[Row]] = [
    # sides, types, limits
    classified(built("left-cut", _left_tokenizer, "bert", spread=8, **BERT, **LABELS), 10),
    tagged(
        built("left-cut-tags", _left_tokenizer, "bert", "ForTokenClassification", **BERT, **ENTITIES),
        10,
    ),
    embedded(built("left-cut-vectors", _left_tokenizer, "bert", "", **BERT), 10),
    likely(built("left-cut-scores", partial(gpt_tokenizer, **_LEFT), "gpt2", "ForCausalLM", **GPT2), 10),
    classified(
        built("types-of-singles", partial(bert_tokenizer, template="[CLS]:0 $A:1 [SEP]:1"), "bert", **BERT, **LABELS)
    ),
    classified(built("no-types", partial(bert_tokenizer, **_types_only_pairs), "bert", **BERT, **LABELS)),
    classified(built("bert-endless", _endless_tokenizer, "bert", **_WIDE, **LABELS), _TABLE),
    classified(built("longer-than-table", _far_tokenizer, "bert", **_WIDE, **LABELS), _TABLE),
    likely(
        built(
            "gpt2-endless",
            partial(gpt_tokenizer, model_max_length=_ENDLESS),
            "gpt2",
            "ForCausalLM",
            **{**GPT2, "n_positions": _TABLE},
        ),
        _TABLE,
    ),
    classified(
        built(
            "xlnet-endless",
            partial(bert_tokenizer, model_max_length=_ENDLESS, template="$A [SEP]:0 [CLS]:0"),
            "xlnet",
            vocab_size=VOCABULARY,
            d_model=32,
            n_layer=2,
            n_head=4,
            d_inner=64,
            pad_token_id=0,
            **LABELS,
        ),
        1_000_000,
    ),
    counted("roberta"),
    counted("xlm-roberta"),
    counted("camembert"),
    counted("data2vec-text"),
    counted("xmod", languages=["en_XX"], default_language="en_XX"),
    counted("xlm-roberta-xl"),
    counted("roberta-prelayernorm"),
    counted("longformer", attention_window=[8, 8]),
    counted("esm", mask_token_id=4),
    counted("mpnet", counts_from=1),  # whatever its files name
    counted("ibert"),
    # what stands in tokenizer.json
    classified(
        edited(
            "stored-padding",
            "ForSequenceClassification",
            partial(
                _rewritten,
                padding={
                    "strategy": {"Fixed": 50},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "[PAD]",
                },
                truncation={"direction": "Right", "max_length": 12, "strategy": "LongestFirst", "stride": 0},
            ),
            **LABELS,
        )
    ),
    classified(Files("added-tokens", partial(_adding, embedded=True)), events=_ADDED),
    classified(Files("added-beyond", partial(_adding, embedded=False)), events=_ADDED),
    classified(
        edited("control-letters", "ForSequenceClassification", lambda path: None, **LABELS),
        events=[*singles(_CONTROL), *paired()],
        options={"top_k": 99, "special_tokens_in_text": "control"},
    ),
    classified(
        built("split-special", partial(bert_tokenizer, split_special_tokens=True), "bert", **BERT, **LABELS),
        events=[*singles(_CONTROL), *paired()],
    ),
    *(
        refused(
            built(f"reads-{limit}", partial(bert_tokenizer, model_max_length=limit), "bert", **BERT, **LABELS),
            "text-classification",
            "tokenizer_config.json",
            "model_max_length",
        )
        for limit in (-1, 2)
    ),
    # files of other layouts
    classified(
        edited("only-vocab-txt", "ForSequenceClassification", _only_vocabulary, **LABELS),
        events=[*singles(), ("Good DAY the FILM", None, None), *paired()],
    ),
    classified(
        edited(
            "vocab-txt-cased",
            "ForSequenceClassification",
            partial(_only_vocabulary, fields={"do_lower_case": False, "model_max_length": 20}),
            **LABELS,
        ),
        20,
        events=[*singles(), ("Good DAY the FILM", None, None), *paired()],
    ),
    classified(Files("vocab-json-and-merges", _byte_files), 100),
    tagged(Files("esm-vocab-txt", _esm), 198, refused=("tokenizer",), may_refuse=True),
    # no tokenizer
    refused(
        edited(
            "no-tokenizer",
            "ForSequenceClassification",
            _without("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
            **LABELS,
        ),
        "text-classification",
        "tokenizer.json",
    ),
    refused(
        edited("only-tokenizer-config", "ForSequenceClassification", _without("tokenizer.json"), **LABELS),
        "text-classification",
        "tokenizer.json",
    ),
    refused(
        Files("gpt2-no-tokenizer", lambda path: network(path, "gpt2", "ForCausalLM", **GPT2)),
        "scoring",
        "tokenizer.json",
    ),
    refused(
        Files("t5-no-tokenizer", lambda path: network(path, "t5", "ForSeq2SeqLM", **T5)),
        "summarization",
        "tokenizer.json",
    ),
    refused(
        _spm("spm.model", "deberta-v2", "ForSequenceClassification", **BERT, **LABELS),
        "text-classification",
        "spm.model",
        "sentencepiece",
    ),
    refused(_spm("spiece.model", "t5", "ForSeq2SeqLM", **T5), "summarization", "spiece.model", "sentencepiece"),
    refused(
        _spm("sentencepiece.bpe.model", "xlm-roberta", "", **BERT),
        "embedding",
        "sentencepiece.bpe.model",
        "sentencepiece",
    ),
    refused(
        edited("broken-tokenizer", "", lambda path: (path / "tokenizer.json").write_text('{"version": "1.0"')),
        "embedding",
        "tokenizer.json",
    ),
]
