"""Encoders of many architectures, each with heads that it has on the hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.answers.building import (
    BERT,
    ENTITIES,
    LABELS,
    NLI_LABELS,
    READS,
    VOCABULARY,
    Files,
    bert_tokenizer,
    network,
)
from tests.answers.rows import (
    Row,
    classified,
    embedded,
    entailed,
    filled,
    likened,
    questioned,
    reranked,
    similar,
    tagged,
)
from tests.answers.texts import WORDED, singles
from tests.tiny_models import (
    BERT as TINY_BERT,
)
from tests.tiny_models import (
    DEBERTA,
    DISTILBERT,
    ELECTRA,
    MOBILEBERT,
    MODERNBERT,
    MPNET,
    ROBERTA,
    XLM_ROBERTA,
    tiny,
)

_TINY_READS: Final = 48
_ENTITY_LABELS: Final = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
_NLI: Final = ("contradiction", "neutral", "entailment")


def pieces(architecture: str, head: str, **fields: Any) -> Files:
    """A network over pieces of words."""
    name = "-".join(filter(None, ("pieces", architecture, head[3:].lower(), *fields.get("labels", ())[:2])))
    make = partial(tiny, architecture=architecture, head=head, max_tokens=_TINY_READS, **fields)
    return Files(name, make, f"pieces-{architecture}")


def whole(architecture: str, head: str, tokenizer: dict[str, Any] | None = None, **config: Any) -> Files:
    """A network over whole words."""

    def make(path: Path) -> None:
        bert_tokenizer(path, **(tokenizer or {}))
        network(path, architecture, head, **config)

    name = "-".join(filter(None, (architecture, head[3:].lower(), *config.get("label2id", ()))))
    return Files(name, make, architecture)


# Positions that are counted from the padding index on: 64 tokens take 65 rows of a table behind index 0.
_COUNTED: Final = {**BERT, "max_position_embeddings": READS + 1}
_NO_TYPES: Final = {"model_input_names": ["input_ids", "attention_mask"]}
_tagging = partial(pieces, head="ForTokenClassification", labels=_ENTITY_LABELS)
_classifying = partial(pieces, head="ForSequenceClassification")
_entailing = partial(pieces, head="ForSequenceClassification", labels=_NLI)
_MPNET: Final = pieces(MPNET, "")

ROWS: Final[list[Row]] = [
    # pieces of words, as WordPiece, byte-level BPE and Unigram cut them
    classified(_classifying(TINY_BERT), _TINY_READS),
    classified(_classifying(ROBERTA), _TINY_READS),
    classified(_classifying(DISTILBERT), _TINY_READS),
    classified(_classifying(DEBERTA), _TINY_READS),
    classified(_classifying(MODERNBERT), _TINY_READS),
    classified(_classifying(MPNET), _TINY_READS),
    classified(_classifying(XLM_ROBERTA), _TINY_READS),
    classified(_classifying(MOBILEBERT), _TINY_READS),
    tagged(_tagging(TINY_BERT), _TINY_READS, "average"),
    tagged(_tagging(ROBERTA), _TINY_READS),
    tagged(_tagging(XLM_ROBERTA), _TINY_READS),
    tagged(_tagging(DEBERTA), _TINY_READS),
    tagged(_tagging(ELECTRA), _TINY_READS, "max"),
    tagged(_tagging(MOBILEBERT), _TINY_READS, "first"),
    tagged(_tagging(DISTILBERT), _TINY_READS, "none"),
    embedded(pieces(MODERNBERT, ""), _TINY_READS),
    embedded(pieces(XLM_ROBERTA, ""), _TINY_READS),
    embedded(_MPNET, _TINY_READS),
    similar(_MPNET, _TINY_READS),
    likened(pieces(TINY_BERT, ""), _TINY_READS),
    entailed(_entailing(ROBERTA), _TINY_READS),
    entailed(_entailing(DEBERTA), _TINY_READS),
    reranked(_classifying(XLM_ROBERTA, labels=("relevance",)), _TINY_READS),
    questioned(pieces(ROBERTA, "ForQuestionAnswering", labels=("a", "b")), _TINY_READS),
    questioned(pieces(DEBERTA, "ForQuestionAnswering", labels=("a", "b")), _TINY_READS),
    filled(pieces(ROBERTA, "ForMaskedLM"), "<mask>", _TINY_READS),
    filled(pieces(MODERNBERT, "ForMaskedLM"), "<mask>", _TINY_READS),
    # whole words
    classified(whole("albert", "ForSequenceClassification", **BERT, **LABELS, embedding_size=16)),
    classified(whole("electra", "ForSequenceClassification", **BERT, **LABELS, embedding_size=16)),
    classified(
        whole(
            "fnet",
            "ForSequenceClassification",
            {"model_input_names": ["input_ids", "token_type_ids"]},
            **{name: value for name, value in BERT.items() if name != "num_attention_heads"},
            **LABELS,
        )
    ),
    classified(
        whole("longformer", "ForSequenceClassification", _NO_TYPES, **_COUNTED, **LABELS, attention_window=[8, 8])
    ),
    classified(whole("data2vec-text", "ForSequenceClassification", _NO_TYPES, **_COUNTED, **LABELS)),
    classified(whole("camembert", "ForSequenceClassification", _NO_TYPES, **_COUNTED, **LABELS)),
    tagged(whole("esm", "ForTokenClassification", _NO_TYPES, **_COUNTED, **ENTITIES, mask_token_id=4)),
    classified(
        whole(
            "xmod",
            "ForSequenceClassification",
            _NO_TYPES,
            **_COUNTED,
            **LABELS,
            languages=["en_XX", "de_DE"],
            default_language="en_XX",
        )
    ),
    classified(whole("big_bird", "ForSequenceClassification", **BERT, **LABELS, attention_type="original_full")),
    classified(
        whole(
            "funnel",
            "ForSequenceClassification",
            vocab_size=VOCABULARY,
            block_sizes=[1, 1],
            d_model=32,
            n_head=4,
            d_head=8,
            d_inner=64,
            num_decoder_layers=1,
            pad_token_id=0,
            **LABELS,
        ),
        events=singles(WORDED),  # transformers' own fails for fewer than three tokens
    ),
    embedded(whole("nomic_bert", "", **BERT)),
    questioned(whole("squeezebert", "ForQuestionAnswering", **BERT, embedding_size=32)),
    questioned(whole("mpnet", "ForQuestionAnswering", _NO_TYPES, **_COUNTED)),
    filled(whole("albert", "ForMaskedLM", **BERT, embedding_size=16)),
    filled(whole("electra", "ForMaskedLM", **BERT, embedding_size=16)),
    entailed(whole("bert", "ForSequenceClassification", **BERT, **NLI_LABELS)),
    reranked(whole("roformer", "ForSequenceClassification", **BERT, num_labels=1)),
]
