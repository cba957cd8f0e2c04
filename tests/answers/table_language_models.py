"""Language models of many architectures: what they hold of a text, and what they go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.answers.building import (
    GPT2,
    GPT_SPECIAL,
    READS,
    VOCABULARY,
    Files,
    gpt_tokenizer,
    network,
    words_tokenizer,
)
from tests.answers.rows import Row, continued, likely
from tests.language_models import tiny_decoder

_SMALL: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 2,
}
LLAMA: Final[dict[str, Any]] = {
    **_SMALL,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": READS,
}


def decoder(architecture: str, *, starts: bool = False, name: str = "", **config: Any) -> Files:
    """A causal language model over whole words; with `starts`, its tokenizer puts a token before each text."""

    def make(path: Path) -> None:
        if starts:
            names = {"unk_token": "<unk>", "eos_token": "<end>", "bos_token": "<end>", "pad_token": "<a>"}
            words_tokenizer(path, GPT_SPECIAL, "<end> $A", **names, model_input_names=["input_ids", "attention_mask"])
        else:
            gpt_tokenizer(path, pad_token="<a>")
        network(path, architecture, "ForCausalLM", **config)

    return Files(name or architecture, make)


GPT2_FILES: Final = decoder("gpt2", **GPT2)
LLAMA_FILES: Final = decoder("llama", starts=True, **LLAMA)
MISTRAL: Final = decoder("mistral", starts=True, **LLAMA, sliding_window=6)
# Whatever its files say, transformers cuts texts to bytes for Qwen.
QWEN2: Final = Files("qwen2", lambda path: tiny_decoder(path, "qwen2", max_tokens=READS))
QWEN3: Final = Files("qwen3", lambda path: tiny_decoder(path, "qwen3", max_tokens=READS))
GEMMA: Final = decoder("gemma", starts=True, **LLAMA)
GEMMA2: Final = decoder("gemma2", starts=True, **LLAMA, sliding_window=6, query_pre_attn_scalar=8)
GEMMA3: Final = decoder("gemma3_text", starts=True, **LLAMA, sliding_window=6, query_pre_attn_scalar=8)
PHI: Final = decoder("phi", **{**LLAMA, "num_key_value_heads": 4})
PHI3: Final = decoder("phi3", starts=True, **LLAMA)
GPT_NEOX: Final = decoder(
    "gpt_neox", **{name: value for name, value in LLAMA.items() if "key" not in name and name != "head_dim"}
)
OPT: Final = decoder(
    "opt", starts=True, **{**LLAMA, "pad_token_id": 1}, ffn_dim=64, word_embed_proj_dim=32, activation_function="relu"
)
BLOOM: Final = decoder("bloom", **_SMALL, n_head=4)
FALCON: Final = decoder("falcon", **_SMALL, num_attention_heads=4, alibi=True, new_decoder_architecture=False)
GPT_NEO: Final = decoder(
    "gpt_neo",
    **{name: value for name, value in _SMALL.items() if name != "num_hidden_layers"},
    num_layers=2,
    num_heads=4,
    attention_types=[[["global", "local"], 1]],
    window_size=6,
    max_position_embeddings=READS,
)
MAMBA2: Final = decoder("mamba2", **_SMALL, state_size=8, num_heads=8, head_dim=8, n_groups=1, expand=2, chunk_size=8)
RWKV: Final = decoder("rwkv", **_SMALL, attention_hidden_size=32, intermediate_size=64, context_length=READS)
XLSTM: Final = decoder(
    "xlstm",
    **{**_SMALL, "hidden_size": 128},
    embedding_dim=128,
    num_blocks=2,
    num_heads=2,
    chunk_size=16,
)
MIXTRAL: Final = decoder("mixtral", starts=True, **LLAMA, num_local_experts=4, num_experts_per_tok=2)

SCORED: Final[list[Row]] = [
    likely(files)
    for files in (
        *(GPT2_FILES, LLAMA_FILES, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, PHI, PHI3, GPT_NEOX, OPT, BLOOM),
        *(FALCON, GPT_NEO, MAMBA2, RWKV, XLSTM, MIXTRAL),
    )
]
CONTINUED: Final[list[Row]] = [
    continued(files)
    for files in (GPT2_FILES, LLAMA_FILES, MISTRAL, QWEN3, GEMMA2, OPT, BLOOM, GPT_NEOX, MAMBA2, RWKV, XLSTM)
]
"""Those that stream and those that don't."""
