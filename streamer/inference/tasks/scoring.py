"""scoring: how likely a language model holds a text, in one forward pass."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import torch
from transformers import AutoModelForCausalLM

from streamer.core.measures import pack
from streamer.core.record import Answer
from streamer.errors import DataFailure, ModelError
from streamer.inference.backends.batch_check import (
    CHANGED_BY_COMPANY,
    known_rows,
    length_matters_from,
    longest_check,
    sharing_of,
)
from streamer.inference.generation.autoregressive import PROBE_TEXT, Autoregressive
from streamer.inference.model import CPU_BATCHING, CUDA_BATCHING, NON_FINITE, Batching, Encoded, NonFinite, Sharing
from streamer.inference.models.reference import Located
from streamer.inference.models.text_reader import ControlLetters
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.options import ScoringOptions
from streamer.inference.tasks.params import read_params

log = logging.getLogger(__name__)

# A pass gives a number for each token of the vocabulary at each position: they are what bounds a batch.
_CPU_LOGIT_BYTES = 1 << 28
_CUDA_LOGIT_BYTES = 1 << 32
_LOGIT_BYTES = 8  # as computed, and once more in fp32
_MOST_NATS = math.log(1.7e308)  # a perplexity beyond is no number that JSON can hold
NO_PREDICTED_TOKEN = "no token is predicted"
TOO_LARGE = "the perplexity is larger than any number"


class ScoringParams(msgspec.Struct, frozen=True):
    """An event's params."""

    per_token: Annotated[bool | None, msgspec.Meta(description="true or false")] = None


class _Scored(msgspec.Struct, frozen=True, gc=False):
    ids: list[int]
    per_token: bool


class Scoring(Autoregressive):
    """Output `{"log_likelihood", "perplexity", "tokens"}`: of every token but the first given those before it, in
    nats; with `per_token` also `"per_token": [{"token", "log_likelihood"}]`. What is undefined is null, and `"reason"`
    says why: of a text of fewer than two tokens nothing is predicted."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        self.options = self.options_as(ScoringOptions)
        super().__init__(spec, located, worker)
        self.batching = self._batching()
        self.refuse_unless_steady()
        self.refuse_unless_causal()
        self.sharing = self._sharing()
        ids = self.ids_of([PROBE_TEXT])[0][: self.max_tokens]
        if len(ids) < 2:
            raise ModelError(f"{spec.model}: a known text has {len(ids)} tokens: there is nothing to predict")
        self.probe = self._encoded(ids, False, per_token=False)

    @property
    def letters(self) -> ControlLetters:
        """As plain transformers reads a text, unless the pipeline says otherwise."""
        return self.options.special_tokens_in_text

    def network_class(self) -> Any:
        """Decoders with a language-model head."""
        return AutoModelForCausalLM

    def likelihoods(self, network: Any, ids: list[int]) -> torch.Tensor:
        """Of each token but the first, given those before it."""
        with torch.inference_mode():
            return _log_likelihoods(network, self.tensor([ids]))[0]

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Tokenise all in one call."""
        encoded: list[Encoded | DataFailure] = []
        for index, (text, ids) in enumerate(zip(texts, self.reader.ids(texts), strict=True)):
            asked = read_params(ScoringParams, params[index] if params else None, self.spec.task)
            if isinstance(asked, DataFailure) or isinstance(ids, DataFailure):
                encoded.append(asked if isinstance(asked, DataFailure) else ids)  # type: ignore[arg-type]
                continue
            truncated = len(ids) > self.max_tokens
            kept = self.fitting(text, ids)
            if isinstance(kept, DataFailure):
                encoded.append(kept)
                continue
            per_token = self.options.per_token if asked.per_token is None else asked.per_token
            encoded.append(self._encoded(kept, truncated, per_token=per_token))
        self.refuse_pairs(encoded, pairs)
        return encoded

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """One pass, or one for each group that may share it."""
        groups: dict[int, list[int]] = {}
        for index, one in enumerate(batch):
            group = {Sharing.PADDED: 0, Sharing.EQUAL: len(one.content.ids), Sharing.ALONE: index}[self.sharing]
            groups.setdefault(group, []).append(index)
        answers: list[Answer | NonFinite] = [NON_FINITE] * len(batch)
        for indexes in groups.values():
            found = self._pass([batch[index].content.ids for index in indexes])
            for index, own in zip(indexes, found, strict=True):
                answers[index] = self._answer(batch[index], own.tolist())
        return answers

    def _pass(self, rows: Sequence[list[int]]) -> list[torch.Tensor]:
        """(length - 1,) a row. Padding stands behind the texts, and no position of a causal network sees what comes
        after it: that needs no mask, and is measured at load."""
        longest = max(2, *map(len, rows)) if len(rows) > 1 else max(2, len(rows[0]))
        with torch.inference_mode():
            found = _log_likelihoods(self.network, self.tensor([ids + [0] * (longest - len(ids)) for ids in rows]))
        return [own[: max(0, len(ids) - 1)] for ids, own in zip(rows, found.cpu(), strict=True)]

    def _sharing(self) -> Sharing:
        most = min(self.max_tokens, longest_check(self.device), max(8, self.batching.tokens // 2))
        sharing = sharing_of(known_rows(*self.known_ids(most), most), self._pass, exact=self.exact)
        scaled = length_matters_from(self.config)
        if sharing is Sharing.PADDED and scaled is not None and scaled < self.max_tokens:
            sharing = Sharing.EQUAL
        if sharing is not Sharing.PADDED:
            log.warning(CHANGED_BY_COMPANY, self.spec.model, sharing.value)
        return sharing

    def _answer(self, one: Encoded, found: list[float]) -> Answer | NonFinite:
        total = math.fsum(found)
        if not math.isfinite(total):
            return NON_FINITE
        nats = -total / len(found) if found else 0.0
        output: dict[str, Any] = {
            "log_likelihood": total if found else None,
            "perplexity": math.exp(nats) if found and nats < _MOST_NATS else None,
            "tokens": len(found),
        }
        if output["perplexity"] is None:
            output["reason"] = TOO_LARGE if found else NO_PREDICTED_TOKEN
        if one.content.per_token:
            names = self.decoder.convert_ids_to_tokens(one.content.ids[1:])
            output["per_token"] = [
                {"token": name, "log_likelihood": value} for name, value in zip(names, found, strict=True)
            ]
        return Answer(msgspec.json.encode(output), one.truncated, False, one.tokens, False, pack(one.unknown))

    def _encoded(self, ids: list[int], truncated: bool, *, per_token: bool) -> Encoded:
        return Encoded(max(2, len(ids)), len(ids), truncated, _Scored(ids, per_token), 1, self.unknown.count(ids))

    def _batching(self) -> Batching:
        cuda = self.device.type == "cuda"
        batching = CUDA_BATCHING if cuda else CPU_BATCHING
        vocabulary = int(self.config.get_text_config().vocab_size)
        most = (_CUDA_LOGIT_BYTES if cuda else _CPU_LOGIT_BYTES) // (vocabulary * _LOGIT_BYTES)
        return Batching(min(batching.tokens, max(1, most)), batching.waste, batching.floor_tokens)


def _log_likelihoods(network: Any, ids: torch.Tensor) -> torch.Tensor:
    """(n, length - 1) in fp32: of every token but the first, given those before it."""
    logits = network(input_ids=ids).logits[:, :-1]
    chosen = logits.gather(2, ids[:, 1:, None])[..., 0].float()
    found: torch.Tensor = chosen - logits.float().logsumexp(dim=-1)
    return found
