"""The tasks that a server can do, by backend, and the options of each. Nothing here imports an HTTP client."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from streamer.inference.tasks.options import Count, NewTokens, Temperature, about

_PROMPT: Final = about("Put before every text. Set it for models that were trained with `query: ` and the like.")
_DIMENSIONS: Final = about("How many numbers the server shall give. Set it for a model that was trained for it.")


class ServedGeneration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of text-generation."""

    max_new_tokens: Annotated[
        NewTokens | None,
        about("The most tokens an answer may have, for events that name none; the server decides where nobody does."),
    ] = None
    temperature: Annotated[
        Temperature, about("How freely tokens are drawn, for events that name none; 0 takes the likeliest.")
    ] = 0.0
    chat: Annotated[
        bool, about("Take a plain text as the user's turn of a conversation. Set true for models tuned for chat.")
    ] = False
    system: Annotated[
        str, about("What a conversation begins with, where chat is true. Set it to tell the model its role.")
    ] = ""


class ServedEmbedding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of embedding by OpenAI's API."""

    prompt: Annotated[str, _PROMPT] = ""
    dimensions: Annotated[Count | None, _DIMENSIONS] = None


class TeiEmbedding(ServedEmbedding, frozen=True, forbid_unknown_fields=True):
    """Of embedding by TEI."""

    normalize: Annotated[bool, about("Scale vectors to length 1. Set false for vectors as the model makes them.")] = (
        True
    )
    prompt_name: Annotated[
        str | None, about("One of the prompts that the model's files name. Set it in place of prompt.")
    ] = None


class TeiRerank(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of rerank by TEI."""

    prompt: Annotated[str, _PROMPT] = ""
    activation: Annotated[
        Literal["sigmoid", "none"],
        about("The function that makes a score of the model's number. Set none for the plain number."),
    ] = "sigmoid"


class TeiClassification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of text-classification by TEI."""

    top_k: Annotated[
        Annotated[int, msgspec.Meta(ge=1)],
        about("Above 1, results also have this many labels as `scores`, best first. Raise it to see the runners-up."),
    ] = 1


SERVED_OPTIONS: Final[dict[str, dict[str, type[msgspec.Struct]]]] = {
    "openai": {"text-generation": ServedGeneration, "embedding": ServedEmbedding},
    "tei": {"embedding": TeiEmbedding, "rerank": TeiRerank, "text-classification": TeiClassification},
}
