"""Networks of an encoder and a decoder, with and without languages."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.answers.building import READS, VOCABULARY, Files, edit, network, widen, words_tokenizer
from tests.answers.rows import Row, written
from tests.answers.texts import TEXTS, WORDS, Event, singles

_SPECIAL: Final = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
_IDS: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 3,
}
T5: Final[dict[str, Any]] = {
    **_IDS,
    "decoder_start_token_id": 0,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
}
BART: Final[dict[str, Any]] = {
    **_IDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": READS,
    "forced_eos_token_id": None,
}


def end_tokenizer(path: Path, template: str = "$A </s>", **fields: Any) -> Any:
    """A token at the end of each text, as T5, Marian and Pegasus have it."""
    return words_tokenizer(
        path,
        _SPECIAL,
        template,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
        **fields,
    )


def both(architecture: str, template: str = "$A </s>", *, name: str = "", **config: Any) -> Files:
    """An encoder and a decoder over whole words."""

    def make(path: Path) -> None:
        end_tokenizer(path, template)
        network(path, architecture, "ForSeq2SeqLM", **config)

    return Files(name or architecture, make)


# --- languages ---

_LANGUAGES: Final = ("en_XX", "de_DE", "fr_XX")


def _multilingual(path: Path, kind: str, architecture: str, source: str, **config: Any) -> None:
    """A tokenizer of many languages with one of its own, and a network that writes words and little else."""
    import torch
    import transformers

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [f"▁{word}" for word in WORDS] + list("abcdefghiklmnoprstuvwyz") + ["▁"]
    vocabulary: Any = [(piece, 0.0) for piece in special] + [(piece, -float(n)) for n, piece in enumerate(pieces)]
    if kind == "NllbTokenizer":
        vocabulary = {piece: n for n, (piece, _) in enumerate(vocabulary)}
    more: dict[str, Any] = {"merges": []} if kind == "NllbTokenizer" else {}
    tokenizer = getattr(transformers, kind)(vocab=vocabulary, src_lang=source, model_max_length=READS, **more)
    tokenizer.save_pretrained(path)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    shape = {**BART, **ids, "vocab_size": len(tokenizer), **config}
    torch.manual_seed(0)
    made: Any = transformers.AutoModelForSeq2SeqLM.from_config(  # type: ignore[no-untyped-call]
        transformers.AutoConfig.for_model(architecture, **shape)
    )
    widen(made.eval(), 8)
    made.save_pretrained(path)


MBART: Final = Files("mbart", partial(_multilingual, kind="MBartTokenizer", architecture="mbart", source="en_XX"))
MBART50: Final = Files("mbart50", partial(_multilingual, kind="MBart50Tokenizer", architecture="mbart", source="en_XX"))
NLLB: Final = Files("nllb", partial(_multilingual, kind="NllbTokenizer", architecture="m2m_100", source="eng_Latn"))


def _spoken(*languages: str) -> list[Event]:
    """Texts of many languages, and of none, one after the other."""
    asked = (None, languages[1], languages[2])
    return [
        (
            text,
            None,
            {"max_new_tokens": 8, "tgt_lang": languages[(n + 1) % 3]}
            | ({"src_lang": language} if (language := asked[n % 3]) else {}),
        )
        for n, text in enumerate((*TEXTS, *TEXTS[2:8]))
    ]


# --- what config.json and generation_config.json ask of targets ---


def _asking(name: str, architecture: str, config: dict[str, Any], generation: dict[str, Any], **more: Any) -> Files:
    """With more fields in generation_config.json, and in config.json."""

    def make(path: Path) -> None:
        end_tokenizer(path)
        network(path, architecture, "ForSeq2SeqLM", **config)
        edit(path / "generation_config.json", **generation)
        edit(path / "config.json", **more)

    return Files(f"{architecture}-{name}", make)


def _old(path: Path) -> None:
    """As checkpoints of before generation_config.json have it."""
    end_tokenizer(path)
    network(path, "bart", "ForSeq2SeqLM", **BART)
    fields = {"num_beams": 3, "max_length": 9, "min_length": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 2}
    (path / "generation_config.json").unlink()
    edit(path / "config.json", **fields, early_stopping=True)


_PREFIX: Final = "the good day "
_SUMMARY: Final = {"prefix": _PREFIX, "max_length": 8, "min_length": 4, "num_beams": 2, "no_repeat_ngram_size": 2}


def _prefixed(path: Path) -> None:
    end_tokenizer(path)
    network(path, "t5", "ForSeq2SeqLM", **T5)
    tasks = {"summarization": _SUMMARY, "translation_en_to_de": {"prefix": "rain "}}
    edit(path / "config.json", task_specific_params=tasks)


BART_FILES: Final = both("bart", "<s> $A </s>", **BART)
T5_FILES: Final = both("t5", **T5)

ROWS: Final[list[Row]] = [
    written(T5_FILES, "summarization"),
    written(both("mt5", **T5, tie_word_embeddings=False), "text2text-generation"),
    written(both("umt5", **T5), "text2text-generation"),
    written(BART_FILES, "summarization"),
    written(both("marian", **{**BART, "decoder_start_token_id": 0}, scale_embedding=True), "translation"),
    written(both("pegasus", **{**BART, "decoder_start_token_id": 0}), "summarization"),
    written(
        both(
            "led",
            "<s> $A </s>",
            **{name: value for name, value in BART.items() if name != "max_position_embeddings"},
            attention_window=[8, 8],
            max_encoder_position_embeddings=READS,
            max_decoder_position_embeddings=READS,
        ),
        "summarization",
    ),
    written(both("blenderbot", **BART), "text2text-generation"),
    written(MBART, "translation", events=_spoken(*_LANGUAGES)),
    written(MBART50, "translation", events=_spoken(*_LANGUAGES)),
    written(NLLB, "translation", events=_spoken("eng_Latn", "deu_Latn", "fra_Latn")),
    written(Files("bart-old-config", _old), "summarization", events=singles()),
    written(_asking("forced-start", "bart", BART, {"forced_bos_token_id": 9}), "text2text-generation"),
    written(_asking("forced-end", "bart", BART, {"forced_eos_token_id": 3}), "text2text-generation"),
    written(_asking("ends", "bart", BART, {"eos_token_id": [3, 9, 14, 20]}), "text2text-generation"),
    written(_asking("length", "t5", T5, {"max_length": 7}), "text2text-generation", events=singles()),
    written(_asking("repetition", "t5", T5, {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2}), "summarization"),
    written(_asking("bad-words", "t5", T5, {"bad_words_ids": [[7], [9], [11]]}), "summarization"),
    written(_asking("suppressed", "t5", T5, {"suppress_tokens": [7, 9, 11, 13, 15]}), "summarization"),
    written(
        _asking("many", "bart", BART, {"num_beams": 3, "num_return_sequences": 3}),
        "summarization",
        generate={"num_return_sequences": 1},
        refused=("generation_config.json", "num_return_sequences"),
        may_refuse=True,
    ),
    written(
        _asking("dictionary", "bart", BART, {"return_dict_in_generate": True, "output_scores": True}),
        "summarization",
        generate={"return_dict_in_generate": False},
        refused=("generation_config.json", "return_dict_in_generate"),
        may_refuse=True,
    ),
    written(
        _asking("sampling", "bart", BART, {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 4}),
        "summarization",
    ),
    written(
        Files("t5-prefix", _prefixed),
        "summarization",
        generate={name: value for name, value in _SUMMARY.items() if name != "prefix"},
        prefix=_PREFIX,
        events=singles(),
        refused=("config.json", "task_specific_params"),
        may_refuse=True,
    ),
]
