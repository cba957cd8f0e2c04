"""The options of each task, as `[pipelines.NAME.options]` gives them. Nothing here imports torch, so that a
configuration can be checked without it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec

from streamer.errors import ModelError
from streamer.inference.params import Texts

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
Aggregation = Literal["none", "simple", "first", "average", "max"]
TopK = Annotated[int, msgspec.Meta(ge=1, le=1000, description="a whole number from 1 to 1000")]
Template = Annotated[
    str, msgspec.Meta(pattern=r"^[^{}]*\{\}[^{}]*$", description="a string with {} once, where the label goes")
]
NewTokens = Annotated[int, msgspec.Meta(ge=1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=100)]
MultiLabel = Annotated[bool, msgspec.Meta(description="true or false")]
Language = Annotated[str, msgspec.Meta(min_length=1, max_length=32, description="a name such as eng_Latn or de_DE")]


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


class VectorOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """What tasks that end in vectors have. None does as the model's files say: of files that say nothing the mean, the
    last token of a language model. `prompt` goes before every text (some models are trained with `query: ` and the
    like); `prompt_name` is one of those that the model's files name; the files' default goes before texts where
    neither is given, which `prompt = ""` prevents. `route` is the task (`query`, `document`) by which a model with a
    Router chooses its modules."""

    pooling: Pooling | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    route: str | None = None


class EmbeddingOptions(VectorOptions, frozen=True, forbid_unknown_fields=True):
    """`normalize` None does as the model's files say: not where they say nothing. `dimensions` keeps the first so many
    of a model trained for it (Matryoshka), normalised again where the whole vector is. `precision = "int8"` gives
    whole numbers from -127 to 127 with the vector's own scale."""

    normalize: bool | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    precision: Literal["float32", "int8"] = "float32"


class SimilarityOptions(VectorOptions, frozen=True, forbid_unknown_fields=True):
    """`prompt` and `prompt_name` are of the text, `candidate_prompt` and `candidate_prompt_name` of what it is compared
    with (models trained for search tell `query: ` from `passage: `); where neither is given for a side, the model's
    default prompt goes before it. `route` is of both."""

    candidate_prompt: str | None = None
    candidate_prompt_name: str | None = None


class RerankOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """`activation` is what makes a score of the model's number; None does as its files say, else sigmoid. `prompt` goes
    before the text, not before its candidates; `prompt_name` and the default are as of task embedding."""

    activation: Literal["sigmoid", "none"] | None = None
    prompt: str | None = None
    prompt_name: str | None = None


class ZeroShotOptions(VectorOptions, frozen=True, forbid_unknown_fields=True):
    """Labels, template and multi_label for events that name none. The template's default is `This example is {}.`,
    with an embedding model the bare label. `method` None takes inference where the model has a head for it;
    `pooling`, `route` and prompts, before text and labels, are of the embedding model."""

    candidate_labels: Texts | None = None
    hypothesis_template: Template | None = None
    multi_label: bool = False
    method: Literal["inference", "embedding"] | None = None


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
    for name, text in refusals(kind, options, task):
        raise ModelError(f"options.{name}: {text}")
    return msgspec.convert(options, kind)


def refusals(kind: type[msgspec.Struct], options: dict[str, Any], task: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a task's options: the name of each, and what it takes instead."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, value in options.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            mend = f'did you mean "{near[0]}"? ' if near else ""
            yield name, f"task {task} has no such option; {mend}it has {', '.join(fields)}"
            continue
        try:
            msgspec.convert(value, fields[name].type)
        except msgspec.ValidationError as error:
            wanted = _wanted(fields[name].type)
            yield name, f"it must be {wanted}" if wanted else str(error)


def _wanted(kind: Any) -> str:
    """The values of an option that takes one of a few, or what its `Meta` or its type says that it is."""
    return _named(kind) or _described(msgspec.inspect.type_info(kind))


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(json.dumps, get_args(kind)))}"
    own = [meta.description for meta in getattr(kind, "__metadata__", ()) if meta.description]
    return next(filter(None, [*own, *map(_named, get_args(kind))]), "")


def _described(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.UnionType(types):
            return next(filter(None, map(_described, types)), "")
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.StrType():
            return "a string"
        case msgspec.inspect.VarTupleType():
            return "a list of strings"
        case msgspec.inspect.IntType(ge=least, le=most) | msgspec.inspect.FloatType(ge=least, le=most):
            number = "a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number"
            return f"{number} {f'of at least {least}' if most is None else f'from {least} to {most}'}"
    return ""
