"""What one event asks of text generation, checked and complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from streamer.core.measures import pack, repetition_bin
from streamer.core.record import Answer
from streamer.inference.model import Encoded
from streamer.inference.tasks.options import NewTokens, Temperature

# Of tokens whose text is looked at for a stop string, beside those that the string itself can take.
_TAIL_TOKENS: Final = 8
_MAX_STOPS: Final = 16

Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Seed = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_TopP = Annotated[float, msgspec.Meta(gt=0, le=1)]
_TopK = Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn of a conversation; `role` is what the model's chat template knows: system, user, assistant …"""

    # Templates write roles between their own signs: no sign of a role may become part of a control token.
    role: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[\w-]+$")]
    content: str


class GenerationParams(msgspec.Struct, frozen=True):
    """An event's params; what comes back is in `schemas/outputs/text-generation.json`."""

    max_new_tokens: Annotated[NewTokens | None, msgspec.Meta(description="an integer of at least 1")] = None
    temperature: Annotated[Temperature | None, msgspec.Meta(description="a number from 0 to 100")] = None
    top_p: Annotated[_TopP | None, msgspec.Meta(description="a number over 0 and at most 1")] = None
    top_k: Annotated[_TopK | None, msgspec.Meta(description="an integer of at least 1")] = None
    seed: Annotated[_Seed | None, msgspec.Meta(description="an integer of at least 0")] = None
    stop: Annotated[
        Stop | Annotated[list[Stop], msgspec.Meta(max_length=_MAX_STOPS)],
        msgspec.Meta(description=f"a string or a list of at most {_MAX_STOPS}, none empty"),
    ] = []
    messages: Annotated[
        Annotated[list[ChatMessage], msgspec.Meta(min_length=1)] | None,
        msgspec.Meta(description="a list of objects with the strings role (letters, digits, - and _) and content"),
    ] = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. None leaves a filter as the model's own generation_config.json has it."""

    temperature: float
    top_p: float | None
    top_k: int | None
    seed: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and what to make of it. `sampling` None takes the likeliest token."""

    ids: list[int]
    max_new_tokens: int
    sampling: Sampling | None
    stops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What was generated: `tokens` with the last one, that ended it."""

    tokens: list[int]
    text: str
    finish_reason: str


def answer_of(encoded: Encoded, completion: Completion) -> Answer:
    """The answer to an encoded request."""
    output = {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": encoded.tokens,
        "completion_tokens": len(completion.tokens),
    }
    tokens = encoded.tokens + len(completion.tokens)
    measures = pack(encoded.unknown, repetition=repetition_bin(completion.tokens))
    return Answer(msgspec.json.encode(output), encoded.truncated, False, tokens, False, measures)


def sampling_of(params: GenerationParams, default_temperature: float) -> Sampling | None:
    """Sampling is on at a temperature over 0. A seed or a filter asks for it too, at temperature 1, where neither the
    event nor the pipeline names a temperature (`core.pipeline.keys` has the same rule)."""
    temperature = params.temperature
    if temperature is None:
        asked = params.top_p is not None or params.top_k is not None or params.seed is not None
        temperature = default_temperature or (1.0 if asked else 0.0)
    return Sampling(temperature, params.top_p, params.top_k, params.seed) if temperature > 0 else None


class Ending:
    """Knows when a completion ends: an end token, a stop string, or its length. A stop string of an event is cut off;
    one of the model's files stays, as `generate` leaves it: `file_stops` is transformers' own criterion of those."""

    def __init__(self, decoder: Any, end_ids: Sequence[int], file_stops: Any = None) -> None:
        self._decode: Callable[..., str] = decoder.decode
        self._end_ids = frozenset(end_ids)
        self.file_stops = file_stops

    def stopped(self, tokens: Sequence[int], stops: tuple[str, ...]) -> bool:
        """Whether a stop string stands in the text; asked after every token, it looks at the last ones only."""
        if not stops:
            return False
        tail = tokens[-(max(len(stop.encode()) for stop in stops) + _TAIL_TOKENS) :]
        text = self._text(tail)
        return any(stop in text for stop in stops) and self._cut(self._text(tokens), stops) is not None

    def complete(self, tokens: Sequence[int], request: Request, *, stopped: bool = False) -> Completion:
        """The completion of tokens that may run beyond its end. `stopped`: a stop string of the files ended it."""
        kept = list(tokens[: request.max_new_tokens])
        ended = next((index for index, token in enumerate(kept) if token in self._end_ids), None)
        if ended is not None:
            kept = kept[: ended + 1]
        text = self._text(kept)
        cut = self._cut(text, request.stops)
        if cut is not None:
            return Completion(kept, cut, "stop")
        return Completion(kept, text, "length" if ended is None and not stopped else "stop")

    def _text(self, tokens: Sequence[int]) -> str:
        return self._decode(list(tokens), skip_special_tokens=True)

    @staticmethod
    def _cut(text: str, stops: tuple[str, ...]) -> str | None:
        places = [place for stop in stops if (place := text.find(stop)) >= 0]
        return text[: min(places)] if places else None
