"""Generation by transformers alone, as two people would write it; run as a program of its own, with settings in JSON.

`make` writes the model; `continuous` gives all requests at once to transformers' continuous batching, as its
`generate_batch` does, but each with its own length; `static` pads 16 in arrival order and generates until the longest
of them is done.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

BATCH = 16
HIDDEN, LAYERS, HEADS, KV_HEADS = 576, 12, 9, 3
VOCABULARY = 8192
MAX_TOKENS = 2048


class GenerateSettings(msgspec.Struct, frozen=True):
    """What to do, with which model, and the requests: prompts and how many tokens follow each."""

    mode: Literal["make", "continuous", "static"]
    model: str
    prompts: list[str] = []
    new_tokens: list[int] = []
    threads: int = 1
    dtype: str = "float32"


def make(path: Path) -> None:
    """A Llama of 47 M random weights, with a tokenizer of one token a byte. It never ends a text by itself."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, model_max_length=MAX_TOKENS
    )
    fast.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 8 // 3,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(path)  # type: ignore[no-untyped-call]


def measure(settings: GenerateSettings) -> float:
    """New tokens a second, the model loaded and warm."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    network: Any = AutoModelForCausalLM.from_pretrained(settings.model, dtype=getattr(torch, settings.dtype))
    network.eval()
    prompts: list[list[int]] = tokenizer(settings.prompts)["input_ids"]
    run = _continuous if settings.mode == "continuous" else _static
    run(network, prompts[:2], [4, 4])
    began = time.perf_counter()
    run(network, prompts, settings.new_tokens)
    return sum(settings.new_tokens) / (time.perf_counter() - began)


def _continuous(network: Any, prompts: list[list[int]], new_tokens: list[int]) -> None:
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    with network.continuous_batching_context_manager(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),  # type: ignore[no-untyped-call]
        continuous_batching_config=ContinuousBatchingConfig(
            block_size=32, num_blocks=512, max_batch_tokens=256, max_requests_per_batch=64
        ),
    ) as manager:
        for ids, most in zip(prompts, new_tokens, strict=True):
            manager.add_request(ids, max_new_tokens=most)
        done = 0
        while done < len(prompts):
            result = manager.get_result(timeout=1.0)
            if result is None:
                continue
            if result.error is not None:
                raise RuntimeError(f"continuous batching failed: {result.error}")
            done += result.is_finished()


def _static(network: Any, prompts: list[list[int]], new_tokens: list[int]) -> None:
    import torch

    for first in range(0, len(prompts), BATCH):
        some = prompts[first : first + BATCH]
        longest = max(map(len, some))
        ids = torch.tensor([[0] * (longest - len(one)) + one for one in some])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in some])
        network.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max(new_tokens[first : first + BATCH]),
            do_sample=False,
            pad_token_id=0,
        )


def main() -> None:
    """Do what the settings say; the last line printed is the figure."""
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=GenerateSettings)
    if settings.mode == "make":
        make(Path(settings.model))
    else:
        sys.stdout.write(json.dumps({"tokens_per_s": measure(settings)}) + "\n")


if __name__ == "__main__":
    main()
