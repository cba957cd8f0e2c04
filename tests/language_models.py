"""Language models for tests: tiny random-weight ones over a byte-level tokenizer, as transformers saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if message.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no such role') }}{% endif %}"
    "<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
END_ID, PAD_ID, START_ID = 256, 257, 258
LANGUAGES: Final = {"de_DE": 259, "fr_FR": 260}
VOCABULARY: Final = 272
_SENTENCES: Final = ["the parcel is late and nobody answers", "a good day for the harbour", "why would it rain again"]
_ENCODER_DECODER: Final[dict[str, Any]] = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {"layers": 2, "attention_heads": 4, "ffn_dim": 64}.items()
} | {"forced_eos_token_id": None}
_SCALED_POSITIONS: Final[dict[str, Any]] = {
    "original_max_position_embeddings": 32,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "partial_rotary_factor": 1.0,
    },
}
DECODERS: Final = ("gpt2", "llama", "qwen2", "mamba", "rwkv")
SEQ2SEQS: Final = ("t5", "bart", "marian")
# Local attention, other positions, states, experts, positions that hang on the longest row of a batch.
MORE_DECODERS: Final = ("mamba2", "xlstm", "gpt_neo", "mistral", "bloom", "mixtral", "phi3", "jamba")
MORE_SEQ2SEQS: Final = ("mt5", "mbart", "pegasus", "led", "longt5", "blenderbot")
MULTILINGUAL: Final = ("mbart", "mbart50", "nllb")
WINDOW: Final = 16


def write_byte_tokenizer(path: Path, max_tokens: int, *, ends: bool = False, chat: bool = False) -> None:
    """A token a byte, so that every text comes back as it was. With `ends`, an end token stands behind each text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<end>", "<pad>", "<start>", *LANGUAGES]
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", END_ID)])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<end>",
        pad_token="<pad>",
        bos_token="<start>",
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(path)


def tiny_decoder(path: Path, kind: str, *, max_tokens: int = 128, chat: bool = False, seed: int = 0) -> Path:
    """A causal model of one of `DECODERS`, with weights wide enough that its choices are clear."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    path.mkdir(parents=True, exist_ok=True)
    write_byte_tokenizer(path, max_tokens, chat=chat)
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "bos_token_id": START_ID,
        "eos_token_id": END_ID,
        "pad_token_id": PAD_ID,
    }
    sizes: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": max_tokens},
        "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 64},
        "mamba2": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8, "head_dim": 8}
        | {"chunk_size": WINDOW},
        "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_blocks": 2, "num_heads": 2, "chunk_size": 16},
        "gpt_neo": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
            "max_position_embeddings": max_tokens,
        },
        "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    }
    size = sizes.get(kind, {})
    if not size:
        size = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": max_tokens,
        } | {
            "mistral": {"sliding_window": WINDOW},
            "mixtral": {"num_local_experts": 4},
            "phi3": _SCALED_POSITIONS,
            "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "use_mamba_kernels": False},
        }.get(kind, {})
    if kind == "mamba2":
        size["n_groups"] = 1
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **size))  # type: ignore[no-untyped-call]
    _widen(network)
    network.save_pretrained(path)
    return path


def tiny_seq2seq(path: Path, kind: str, *, max_tokens: int = 64, seed: int = 0) -> Path:
    """A model of one of `SEQ2SEQS`."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    path.mkdir(parents=True, exist_ok=True)
    write_byte_tokenizer(path, max_tokens, ends=True)
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "eos_token_id": END_ID,
        "pad_token_id": PAD_ID,
        "bos_token_id": START_ID,
        "decoder_start_token_id": PAD_ID,
    }
    if kind.endswith("t5"):
        shape |= {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        shape |= {"local_radius": 7} if kind == "longt5" else {}
    else:
        shape |= _ENCODER_DECODER | {"max_position_embeddings": max_tokens}
    if kind == "led":
        shape |= {"attention_window": [8, 8], "max_encoder_position_embeddings": max_tokens}
    torch.manual_seed(seed)
    network = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **shape))  # type: ignore[no-untyped-call]
    _widen(network)
    network.save_pretrained(path)
    return path


def tiny_multilingual(path: Path, kind: str, *, seed: int = 0) -> Path:
    """A model of one of `MULTILINGUAL`, over a tokenizer whose files say English. Its targets are words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    path.mkdir(parents=True, exist_ok=True)
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False)
    raw.train_from_iterator(_SENTENCES * 50, trainer)
    pieces = json.loads(raw.to_str())["model"]["vocab"]
    english = "eng_Latn" if kind == "nllb" else "en_XX"
    if kind == "nllb":
        vocabulary: Any = {piece: number for number, (piece, _) in enumerate(pieces)}
        tokenizer: Any = transformers.NllbTokenizer(vocab=vocabulary, merges=[], src_lang=english)
    else:
        made = {"mbart": transformers.MBartTokenizer, "mbart50": transformers.MBart50Tokenizer}[kind]
        tokenizer = made(vocab=[(piece, float(score)) for piece, score in pieces], src_lang=english)
    tokenizer.save_pretrained(path)
    shape = {"d_model": 32, "vocab_size": len(tokenizer), "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    shape |= {"decoder_start_token_id": 2, "max_position_embeddings": 64, **_ENCODER_DECODER}
    architecture = "m2m_100" if kind == "nllb" else "mbart"
    torch.manual_seed(seed)
    network: Any = transformers.AutoModelForSeq2SeqLM.from_config(  # type: ignore[no-untyped-call]
        transformers.AutoConfig.for_model(architecture, **shape)
    )
    _widen(network)
    network.save_pretrained(path)
    bias = [[[number], -100.0] for number in (*range(1, 5), *range(len(pieces), len(tokenizer)))]
    edit_json(path / "generation_config.json", lambda fields: fields | {"sequence_bias": bias})
    return path


def edit_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a file of a model; one that is not there is empty."""
    path.write_text(json.dumps(change(json.loads(path.read_text()) if path.is_file() else {})))


def _widen(network: Any) -> None:
    """Random weights of the usual size give near-ties everywhere: a choice would hang on the last bit."""
    import torch

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
