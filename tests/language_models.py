"""Language models for tests: tiny random-weight ones over a byte-level tokenizer, as transformers saves them."""

from __future__ import annotations

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
DECODERS: Final = ("gpt2", "llama", "qwen2", "mamba", "rwkv")
SEQ2SEQS: Final = ("t5", "bart", "marian")


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
    size: dict[str, Any] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": max_tokens},
        "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 64},
    }.get(
        kind,
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": max_tokens,
        },
    )
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
    if kind == "t5":
        shape |= {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    else:
        for side in ("encoder", "decoder"):
            shape |= {f"{side}_layers": 2, f"{side}_attention_heads": 4, f"{side}_ffn_dim": 64}
        shape |= {"max_position_embeddings": max_tokens, "forced_eos_token_id": None}
    torch.manual_seed(seed)
    network = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **shape))  # type: ignore[no-untyped-call]
    _widen(network)
    network.save_pretrained(path)
    return path


def _widen(network: Any) -> None:
    """Random weights of the usual size give near-ties everywhere: a choice would hang on the last bit."""
    import torch

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
