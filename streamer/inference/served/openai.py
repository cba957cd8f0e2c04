"""OpenAI's API, as vLLM, SGLang, llama.cpp, TGI and others serve it: chat, completions, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.generation.request import GenerationParams, sampling_of
from streamer.inference.model import Encoded, unknown_param
from streamer.inference.served.api import (
    Answered,
    Identity,
    MalformedError,
    TextRequest,
    WithheldError,
    length_of,
    shares_of,
)
from streamer.inference.served.client import NoReplyError
from streamer.inference.served.options import ServedEmbedding, ServedGeneration
from streamer.inference.served.vectors import vector_answers
from streamer.inference.tasks.params import read_params

_SHOWN: Final = 10
_FINISHED: Final = {"stop": "stop", "length": "length", "eos_token": "stop", "stop_sequence": "stop"}
_FILTERED: Final = ("content_filter", "tool_calls", "function_call")
_NO_PAIR: Final = DataFailure(Code.VALIDATE_TEXT_PAIR, "the task takes one text: send no text_pair")


class _Served(msgspec.Struct):
    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class _List(msgspec.Struct):
    data: list[_Served]


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    text: str | None = None
    message: _Said | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str = ""
    system_fingerprint: str | None = None


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int


class _Embeddings(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None
    model: str = ""
    system_fingerprint: str | None = None


class OpenAi:
    """What both tasks have."""

    about = "/models"
    listed = ""
    temperature: float | None = None

    def identify(self, body: bytes, wanted: str) -> Identity:
        """By the list of models. `created` is left out: some servers give the time of the request."""
        listed = {one.id: one for one in decoded(body, _List).data}
        self.listed = names = ", ".join(sorted(listed)[:_SHOWN])
        if not wanted and not listed:  # it has yet to load one
            raise NoReplyError("it lists no model")
        if not wanted and len(listed) != 1:
            raise ModelError(f"the server has {len(listed)} models ({names}): name one in served_model")
        name = wanted or next(iter(listed))
        if name not in listed:  # some servers have more than they list: a known text tells
            return Identity(name)
        one = listed[name]
        return Identity(name, msgspec.to_builtins(one), max_tokens=one.max_model_len or 0)


class OpenAiGeneration(OpenAi):
    """text-generation: a conversation through `/chat/completions`, a plain text through `/completions`."""

    batch = 1

    def __init__(self, options: ServedGeneration) -> None:
        if options.system and not options.chat:
            raise ModelError("option system: it begins a conversation, so that it needs option chat = true")
        self._options = options
        self.temperature = options.temperature

    def encode(self, text: str, pair: str | None, params: dict[str, Any] | None) -> Encoded | DataFailure:
        """The whole request but for the model's name."""
        asked = read_params(GenerationParams, params, "text-generation")
        if isinstance(asked, DataFailure):
            return asked
        if pair is not None:
            return _NO_PAIR
        body: dict[str, Any] = {}
        options = self._options
        if asked.messages is not None or options.chat:
            messages = [{"role": one.role, "content": one.content} for one in asked.messages or ()]
            if asked.messages is None and options.system:
                messages.append({"role": "system", "content": options.system})
            if not messages or messages[-1]["role"] != "user":
                messages.append({"role": "user", "content": text})
            path, body["messages"] = "/chat/completions", messages
            texts = tuple(one["content"] for one in messages)
        else:
            path, body["prompt"] = "/completions", text
            texts = (text,)
        sampling = sampling_of(asked, options.temperature)
        body["temperature"] = 0 if sampling is None else sampling.temperature
        most = asked.max_new_tokens or options.max_new_tokens
        given = {"max_tokens": most, "top_p": asked.top_p, "top_k": asked.top_k, "seed": asked.seed}
        body |= {name: value for name, value in given.items() if value is not None}
        if asked.stop:
            body["stop"] = asked.stop
        return Encoded(sum(map(length_of, texts)) + (most or 256), 0, False, TextRequest(path, body, texts))

    def body(self, asks: Sequence[TextRequest], model: str) -> bytes:
        """Of the one ask."""
        (ask,) = asks
        return msgspec.json.encode({"model": model, **ask.body})

    def read(self, body: bytes, headers: Any, asks: Sequence[TextRequest]) -> Answered:
        """The first choice, whole."""
        found = decoded(body, _Completion)
        if not found.choices:
            raise MalformedError("it has no choices")
        choice, usage = found.choices[0], found.usage or _Usage()
        if choice.finish_reason in _FILTERED:
            raise WithheldError(f"its finish_reason is {choice.finish_reason}")
        text = choice.message.content if choice.message is not None else choice.text
        reason = _FINISHED.get(choice.finish_reason or "")
        if text is None or reason is None:
            raise MalformedError(f"it has no {'text' if text is None else 'finish_reason that is known'}")
        read, written = max(0, usage.prompt_tokens or 0), max(0, usage.completion_tokens or 0)
        output = {"text": text, "finish_reason": reason, "prompt_tokens": read, "completion_tokens": written}
        return Answered(
            [Answer(msgspec.json.encode(output), tokens=read + written)], found.model, found.system_fingerprint or ""
        )


class OpenAiEmbeddings(OpenAi):
    """embedding: several texts a request."""

    def __init__(self, options: ServedEmbedding, batch: int) -> None:
        self._options = options
        self.batch = batch

    def encode(self, text: str, pair: str | None, params: dict[str, Any] | None) -> Encoded | DataFailure:
        """The text with the prompt before it."""
        if pair is not None:
            return _NO_PAIR
        if failure := unknown_param(params, frozenset(), "embedding"):
            return failure
        return Encoded(length_of(text), 0, False, TextRequest("/embeddings", self._options.prompt + text, (text,)))

    def body(self, asks: Sequence[TextRequest], model: str) -> bytes:
        """All in one."""
        body: dict[str, Any] = {"model": model, "input": [ask.body for ask in asks], "encoding_format": "float"}
        if self._options.dimensions is not None:
            body["dimensions"] = self._options.dimensions
        return msgspec.json.encode(body)

    def read(self, body: bytes, headers: Any, asks: Sequence[TextRequest]) -> Answered:
        """By each vector's index, which servers need not keep in order."""
        found = decoded(body, _Embeddings)
        vectors: list[list[float]] = [[]] * len(asks)
        for one in found.data:
            if not 0 <= one.index < len(asks) or vectors[one.index]:
                raise MalformedError("its vectors have indexes of no text, or of one twice")
            vectors[one.index] = one.embedding
        tokens = shares_of(max(0, (found.usage or _Usage()).prompt_tokens or 0), asks)
        answers = vector_answers(vectors, tokens, self._options.dimensions)
        return Answered(answers, found.model, found.system_fingerprint or "", len(vectors[0]))


def decoded(body: bytes, kind: Any) -> Any:
    """JSON of the form that is expected. Raises `MalformedError`, with the place but no value of it."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        place = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "its first level"
        raise MalformedError(f"it has another form than the API's, at {place}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise MalformedError("it is not JSON" if body else "it is empty, or larger than any can be") from None
