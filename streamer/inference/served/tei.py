"""The API of text-embeddings-inference: embed, rerank, predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.model import Encoded, unknown_param
from streamer.inference.served.api import Answered, Identity, MalformedError, TextRequest, length_of, shares_of
from streamer.inference.served.openai import decoded
from streamer.inference.served.options import TeiClassification, TeiEmbedding, TeiRerank
from streamer.inference.served.vectors import vector_answers
from streamer.inference.tasks.measuring import of_scores
from streamer.inference.tasks.params import Texts, read_params

_TOKENS: Final = "x-compute-tokens"


class _Info(msgspec.Struct):
    model_id: str
    model_sha: str | None = None
    model_dtype: str = "served"
    model_type: Any = None
    max_input_length: int = 0
    max_client_batch_size: int = 0


class _Scored(msgspec.Struct):
    index: int
    score: float


class _Labelled(msgspec.Struct):
    label: str
    score: float


class _Candidates(msgspec.Struct, frozen=True):
    candidates: Texts | None = None


class Tei:
    """What its tasks have."""

    about = "/info"
    listed = ""
    temperature: float | None = None
    kind: str

    def __init__(self, truncate: bool, batch: int) -> None:
        self._truncate = truncate
        self.batch = batch

    def identify(self, body: bytes, wanted: str) -> Identity:
        """By `/info`; a server has one model, of one kind."""
        found = decoded(body, _Info)
        if wanted and wanted != found.model_id:
            raise ModelError(f"served_model: the server has {found.model_id}, not {wanted}")
        kinds = list(found.model_type) if isinstance(found.model_type, dict) else []
        if kinds and kinds[0] != self.kind:
            raise ModelError(f"the server's model is one of kind {kinds[0]}, and the task needs one of {self.kind}")
        facts = {"sha": found.model_sha, "type": found.model_type, "dtype": found.model_dtype}
        return Identity(
            found.model_id,
            facts,
            found.model_sha or "",
            found.model_dtype,
            found.max_input_length,
            found.max_client_batch_size,
        )

    def _tokens(self, headers: Any, asks: Sequence[TextRequest]) -> list[int]:
        told = headers.get(_TOKENS, "")
        return shares_of(int(told) if told.isdecimal() else 0, asks)


class EmbedApi(Tei):
    """embedding."""

    kind = "embedding"

    def __init__(self, options: TeiEmbedding, truncate: bool, batch: int) -> None:
        super().__init__(truncate, batch)
        self._options = options

    def encode(self, text: str, pair: str | None, params: dict[str, Any] | None) -> Encoded | DataFailure:
        """The text with the prompt before it."""
        if pair is not None:
            return DataFailure(Code.VALIDATE_TEXT_PAIR, "task embedding takes one text: send no text_pair")
        if failure := unknown_param(params, frozenset(), "embedding"):
            return failure
        return Encoded(length_of(text), 0, False, TextRequest("/embed", self._options.prompt + text, (text,)))

    def body(self, asks: Sequence[TextRequest], model: str) -> bytes:
        """All in one."""
        options = self._options
        given = {"dimensions": options.dimensions, "prompt_name": options.prompt_name}
        body = {"inputs": [ask.body for ask in asks], "normalize": options.normalize, "truncate": self._truncate}
        return msgspec.json.encode(body | {name: value for name, value in given.items() if value is not None})

    def read(self, body: bytes, headers: Any, asks: Sequence[TextRequest]) -> Answered:
        """A vector a text."""
        vectors = decoded(body, list[list[float]])
        if len(vectors) != len(asks):
            raise MalformedError("it has not one vector for each text")
        answers = vector_answers(vectors, self._tokens(headers, asks), self._options.dimensions)
        return Answered(answers, width=len(vectors[0]))


class PredictApi(Tei):
    """text-classification."""

    kind = "classifier"

    def __init__(self, options: TeiClassification, truncate: bool, batch: int) -> None:
        super().__init__(truncate, batch)
        self._top_k = options.top_k

    def encode(self, text: str, pair: str | None, params: dict[str, Any] | None) -> Encoded | DataFailure:
        """A text, or a text and its pair."""
        if failure := unknown_param(params, frozenset(), "text-classification"):
            return failure
        texts = (text,) if pair is None else (text, pair)
        return Encoded(sum(map(length_of, texts)), 0, False, TextRequest("/predict", texts, texts))

    def body(self, asks: Sequence[TextRequest], model: str) -> bytes:
        """All in one."""
        body = {"inputs": [ask.body for ask in asks], "raw_scores": False, "truncate": self._truncate}
        return msgspec.json.encode(body)

    def read(self, body: bytes, headers: Any, asks: Sequence[TextRequest]) -> Answered:
        """The labels of each text, best first."""
        found: list[list[_Labelled]] = decoded(body, list[list[_Labelled]])
        if len(found) != len(asks) or not all(found):
            raise MalformedError("it has not labels for each text")
        answers = []
        for labelled, tokens in zip(found, self._tokens(headers, asks), strict=True):
            ranked = [msgspec.to_builtins(one) for one in sorted(labelled, key=lambda one: -one.score)]
            output: dict[str, Any] = dict(ranked[0])
            if self._top_k > 1:
                output["scores"] = ranked[: self._top_k]
            scores = np.array([[one["score"] for one in ranked]])
            whole = abs(float(scores.sum()) - 1) < 0.001
            measures = of_scores([0], scores, shares=whole)[0] if len(ranked) > 1 and scores.min() >= 0 else b""
            answers.append(Answer(msgspec.json.encode(output), tokens=tokens, measures=measures))
        return Answered(answers)


class RerankApi(Tei):
    """rerank: an event's candidates are a request of their own."""

    kind = "reranker"

    def __init__(self, options: TeiRerank, truncate: bool) -> None:
        super().__init__(truncate, 1)
        self._options = options

    def encode(self, text: str, pair: str | None, params: dict[str, Any] | None) -> Encoded | DataFailure:
        """The text and its pair, or its candidates."""
        asked = read_params(_Candidates, params, "rerank")
        if isinstance(asked, DataFailure):
            return asked
        if (pair is None) == (asked.candidates is None):
            message = "task rerank needs either text_pair or the param 'candidates', and not both"
            return DataFailure(Code.VALIDATE_PARAMS, message)
        others = asked.candidates if asked.candidates is not None else [pair or ""]
        body = {"query": self._options.prompt + text, "texts": others}
        length = length_of(text) * len(others) + sum(map(length_of, others))
        return Encoded(length, 0, False, TextRequest("/rerank", (body, pair is None), (text, *others)))

    def body(self, asks: Sequence[TextRequest], model: str) -> bytes:
        """Of the one ask."""
        (ask,) = asks
        raw = self._options.activation == "none"
        return msgspec.json.encode({**ask.body[0], "raw_scores": raw, "truncate": self._truncate})

    def read(self, body: bytes, headers: Any, asks: Sequence[TextRequest]) -> Answered:
        """Scores in the candidates' order."""
        (ask,) = asks
        asked, own = ask.body
        found: list[_Scored] = decoded(body, list[_Scored])
        scores = {one.index: one.score for one in found}
        if len(found) != len(asked["texts"]) or set(scores) != set(range(len(found))):
            raise MalformedError("it has not one score for each candidate")
        numbers = [scores[index] for index in range(len(found))]
        output: dict[str, Any] = {"score": numbers[0]}
        if own:
            output = {"scores": numbers, "ranking": sorted(scores, key=lambda index: (-scores[index], index))}
        return Answered([Answer(msgspec.json.encode(output), tokens=self._tokens(headers, asks)[0])])
