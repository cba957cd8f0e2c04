"""What a batch pads with, on which side, and networks that padding reaches."""

from __future__ import annotations

import copy
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
    NAMES,
    NLI_LABELS,
    READS,
    VOCABULARY,
    Files,
    bert_tokenizer,
    gpt_tokenizer,
    network,
    words_tokenizer,
)
from tests.answers.references import Answers
from tests.answers.rows import Row, classified, embedded, entailed, likely, questioned, tagged
from tests.answers.table_language_models import LLAMA
from tests.answers.table_seq2seq import BART, end_tokenizer
from tests.answers.texts import WORDED, Event, paired, sentence, singles

_WORDED: Final[list[Event]] = [*singles(WORDED), *[event for event in paired() if event[1]]]
"""For tokenizers that put nothing around a text: one without words has no tokens, and no answer."""


def built(
    name: str,
    tokenizer: Callable[[Path], object],
    architecture: str,
    head: str = "ForSequenceClassification",
    **config: Any,
) -> Files:
    """A tokenizer and a network."""

    def make(path: Path) -> None:
        tokenizer(path)
        network(path, architecture, head, **config)

    return Files(name, make)


def _gpt(name: str, tokenizer: dict[str, Any], **config: Any) -> Files:
    return built(name, partial(gpt_tokenizer, **tokenizer), "gpt2", **{**GPT2, **LABELS, **config})


def _llama(name: str, tokenizer: dict[str, Any], **config: Any) -> Files:
    fields = {name: value for name, value in LLAMA.items() if name != "pad_token_id"}
    return built(name, partial(gpt_tokenizer, **tokenizer), "llama", **{**fields, **LABELS, **config})


_XLNET: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "n_layer": 2,
    "n_head": 4,
    "d_inner": 64,
    "pad_token_id": 0,
}
_xlnet_tokenizer = partial(
    words_tokenizer,
    template="$A [SEP]:0 [CLS]:2",
    pair="$A [SEP]:0 $B:1 [SEP]:1 [CLS]:2",
    padding_side="left",
    model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    **NAMES,
)
_bart_tokenizer = partial(end_tokenizer, template="<s> $A </s>", cls_token="<s>", sep_token="</s>")
_LONG_TEXTS: Final[list[Event]] = [(sentence(n, 14 * n + 2), None, None) for n in range(9)]


def _forgetful(path: Path, limit: int) -> Answers:
    """Each text by a network of its own: what one does to the network is not seen by the next."""
    network, tokenizer = references.opened(path, "ForSequenceClassification")

    def answer(event: Event) -> dict[str, Any]:
        with torch.inference_mode():
            logits = copy.deepcopy(network)(**references.read(tokenizer, event[0], None, limit)).logits[0]
        scores = logits.softmax(-1).tolist()
        best = max(range(len(scores)), key=scores.__getitem__)
        return {"label": network.config.id2label[best], "score": scores[best]}

    return answer


ROWS: Final[list[Row]] = [
    # decoders that classify: the network finds a text's last token by config.pad_token_id
    classified(_gpt("gpt2-config-pads", {}, pad_token_id=3), events=_WORDED),
    classified(_gpt("gpt2-pads-differ", {"pad_token": "<a>"}, pad_token_id=0), events=_WORDED),
    classified(_gpt("gpt2-pads-with-end", {"pad_token": "<end>"}, pad_token_id=0), events=_WORDED),
    classified(_gpt("gpt2-tokenizer-pads", {"pad_token": "<a>"}), events=_WORDED),
    classified(_gpt("gpt2-no-pad", {}), events=_WORDED),
    classified(_gpt("gpt2-left", {"pad_token": "<end>", "padding_side": "left"}, pad_token_id=0), events=_WORDED),
    classified(_gpt("gpt2-pad-beyond", {"pad_token": "<pad>"}), events=_WORDED),
    classified(
        _gpt(
            "gpt2-types",
            {"pad_token": "<a>", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
            pad_token_id=2,
        ),
        events=_WORDED,
    ),
    classified(_llama("llama-left", {"pad_token": "<a>", "padding_side": "left"}, pad_token_id=2), events=_WORDED),
    classified(_llama("llama-no-pad", {}), events=_WORDED),
    classified(_llama("llama-pads-differ", {"pad_token": "<a>"}, pad_token_id=0), events=_WORDED),
    tagged(
        built(
            "mistral-tags",
            partial(gpt_tokenizer, pad_token="<a>"),
            "mistral",
            "ForTokenClassification",
            **{**LLAMA, **ENTITIES},
            sliding_window=6,
        ),
        events=singles(WORDED),
    ),
    embedded(
        built("gpt2-left-vectors", partial(gpt_tokenizer, pad_token="<a>", padding_side="left"), "gpt2", "", **GPT2),
        events=singles(WORDED),
    ),
    # encoders
    classified(built("bert-left", partial(bert_tokenizer, padding_side="left"), "bert", **BERT, **LABELS)),
    embedded(built("bert-left-vectors", partial(bert_tokenizer, padding_side="left"), "bert", "", **BERT)),
    questioned(
        built("bert-left-answers", partial(bert_tokenizer, padding_side="left"), "bert", "ForQuestionAnswering", **BERT)
    ),
    classified(built("bert-pad-beyond", partial(bert_tokenizer, pad_token="[FILL]"), "bert", **BERT, **LABELS)),
    classified(built("bert-no-pad", partial(bert_tokenizer, pad_token=None), "bert", **BERT, **LABELS)),
    classified(built("xlnet", _xlnet_tokenizer, "xlnet", spread=8, **_XLNET, **LABELS)),
    tagged(built("xlnet-tags", _xlnet_tokenizer, "xlnet", "ForTokenClassification", **_XLNET, **ENTITIES)),
    embedded(built("xlnet-vectors", _xlnet_tokenizer, "xlnet", "", **_XLNET)),
    # convolutions over tokens see the padding behind a text
    classified(built("convbert", bert_tokenizer, "convbert", **BERT, **LABELS, embedding_size=32, conv_kernel_size=3)),
    classified(
        built(
            "deberta-conv",
            bert_tokenizer,
            "deberta-v2",
            **BERT,
            **LABELS,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=8,
            conv_kernel_size=3,
        )
    ),
    classified(
        built("deberta", bert_tokenizer, "deberta", **BERT, **LABELS, relative_attention=True, pos_att_type=["c2p"])
    ),
    classified(built("rembert", bert_tokenizer, "rembert", **BERT, **LABELS, input_embedding_size=16)),
    classified(built("megatron-bert", bert_tokenizer, "megatron-bert", **BERT, **LABELS)),
    classified(built("ernie", bert_tokenizer, "ernie", **BERT, **LABELS)),
    classified(built("ibert", bert_tokenizer, "ibert", **{**BERT, "max_position_embeddings": READS + 1}, **LABELS)),
    # encoders and decoders that classify: the network counts end tokens
    classified(built("bart-classes", _bart_tokenizer, "bart", **BART, **LABELS)),
    entailed(built("bart-mnli", _bart_tokenizer, "bart", **BART, **NLI_LABELS)),
    classified(
        built(
            "t5-classes",
            end_tokenizer,
            "t5",
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=3,
            decoder_start_token_id=0,
            **LABELS,
        ),
    ),
    # beyond so many tokens its attention is sparse; the first shorter text makes transformers' own full for good
    Row(
        built(
            "big-bird-sparse",
            partial(bert_tokenizer, model_max_length=128),
            "big_bird",
            **{**BERT, "max_position_embeddings": 128},
            **LABELS,
            attention_type="block_sparse",
            block_size=4,
            num_random_blocks=1,
            spread=8,
        ),
        "text-classification",
        lambda path: _forgetful(path, 128),
        events=_LONG_TEXTS,
        refused=("config.json", "attention_type"),
        may_refuse=True,
    ),
    likely(built("gpt2-left-scores", partial(gpt_tokenizer, padding_side="left"), "gpt2", "ForCausalLM", **GPT2)),
]
