"""The options of each task, as `[pipelines.NAME.options]` gives them. Nothing here imports torch, so that a
configuration can be checked without it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from streamer.errors import ModelError
from streamer.inference.params import Texts

Pooling = Literal["mean", "cls", "max"]
Aggregation = Literal["none", "simple", "first", "average", "max"]
TopK = Annotated[int, msgspec.Meta(ge=1, le=1000, description="a whole number from 1 to 1000")]
Template = Annotated[
    str, msgspec.Meta(pattern=r"^[^{}]*\{\}[^{}]*$", description="a string with {} once, where the label goes")
]
NewTokens = Annotated[int, msgspec.Meta(ge=1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=100)]
MultiLabel = Annotated[bool, msgspec.Meta(description="true or false")]
Language = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]


class TextOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every task has. `special_tokens_in_text` says what becomes of letters such as `[SEP]` or `<|im_end|>` in an
    event: `control` reads them as the tokenizer does; `text` splits them, so that only templates make control
    tokens."""

    special_tokens_in_text: Literal["text", "control"] = "control"


class ClassificationOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`top_k` > 1 adds that many labels as `scores`; `multi_label` scores each label by itself (sigmoid), None does
    as the model's config says."""

    top_k: Annotated[int, msgspec.Meta(ge=1)] = 1
    multi_label: bool | None = None


class TokenClassificationOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`aggregation`: `none` gives every token's label, `simple` joins neighbours of the same label (B- begins anew);
    before joining, `first`, `average` and `max` make the tokens of a word agree. `ignore` are labels to leave out."""

    aggregation: Aggregation = "simple"
    ignore: tuple[str, ...] = ("O",)


class EmbeddingOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """None does as the model's files say: mean without normalising where they say nothing. `prompt` goes before
    every text (some models are trained with `query: ` and the like). `dimensions` keeps the first so many of a
    model trained for it (Matryoshka), normalised again where the whole vector is. `precision = "int8"` gives whole
    numbers from -127 to 127 with the vector's own scale."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    prompt: str = ""
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    precision: Literal["float32", "int8"] = "float32"


class SimilarityOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`pooling` as of task embedding. `prompt` goes before the text, `candidate_prompt` before what it is compared
    with (models trained for search tell `query: ` from `passage: `)."""

    pooling: Pooling | None = None
    prompt: str = ""
    candidate_prompt: str = ""


class RerankOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`activation` is what makes a score of the model's number; None does as its files say, else sigmoid."""

    activation: Literal["sigmoid", "none"] | None = None


class ZeroShotOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Labels, template and multi_label for events that name none. The template's default is `This example is {}.`,
    with an embedding model the bare label. `method` None takes inference where the model has a head for it;
    `pooling` is of the embedding model."""

    candidate_labels: Texts | None = None
    hypothesis_template: Template | None = None
    multi_label: bool = False
    method: Literal["inference", "embedding"] | None = None
    pooling: Pooling | None = None


class QuestionAnsweringOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`top_k` > 1 adds that many answers; no answer is longer than `max_answer_tokens`. `no_answer` lets models
    trained for it say that the text holds none: the answer is then empty."""

    top_k: Annotated[int, msgspec.Meta(ge=1)] = 1
    max_answer_tokens: Annotated[int, msgspec.Meta(ge=1)] = 15
    no_answer: bool = False


class FillMaskOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`top_k`: candidates for each mask, where the event does not say."""

    top_k: TopK = 5


class Seq2SeqOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """What is None does as the model's files say: generation_config.json, and the entry of config.json's
    task_specific_params that fits the task. `prefix` goes before every text (T5 is trained with `summarize: ` and the
    like) and may hold control tokens. The languages are for events that name none."""

    special_tokens_in_text: Literal["text", "control"] = "text"
    max_new_tokens: NewTokens | None = None
    min_length: Annotated[int, msgspec.Meta(ge=0)] | None = None
    num_beams: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    prefix: str | None = None
    src_lang: Language | None = None
    tgt_lang: Language | None = None


class GenerationOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`max_new_tokens` and `temperature` are for events that name none; temperature 0 takes the likeliest token,
    whatever the model's files say of sampling. `num_beams` None does as they say. With `chat`, a plain text is the
    user's turn of a conversation that begins with `system`. `continuous` False keeps to plain `generate`."""

    special_tokens_in_text: Literal["text", "control"] = "text"
    max_new_tokens: NewTokens | None = None
    temperature: Temperature = 0.0
    num_beams: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    chat: bool = False
    system: str = ""
    continuous: bool = True


class ScoringOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`per_token` adds each token's own log-likelihood for events that do not say."""

    per_token: bool = False


_Options = TypeVar("_Options", bound=msgspec.Struct)

OPTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "text-classification": ClassificationOptions,
    "token-classification": TokenClassificationOptions,
    "embedding": EmbeddingOptions,
    "similarity": SimilarityOptions,
    "rerank": RerankOptions,
    "zero-shot-classification": ZeroShotOptions,
    "question-answering": QuestionAnsweringOptions,
    "fill-mask": FillMaskOptions,
    "summarization": Seq2SeqOptions,
    "translation": Seq2SeqOptions,
    "text2text-generation": Seq2SeqOptions,
    "text-generation": GenerationOptions,
    "scoring": ScoringOptions,
}
"""Of each task that transformers' models serve."""


def read_options(kind: type[_Options], options: dict[str, Any], task: str) -> _Options:
    """A task's options, checked. Raises `ModelError`."""
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as error:
        raise ModelError(f"options of task {task}: {error}") from None
