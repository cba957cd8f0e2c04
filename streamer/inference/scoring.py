"""scoring: how likely a language model holds a text, in one forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import torch
from transformers import AutoModelForCausalLM

from streamer.core.record import Answer
from streamer.errors import DataFailure
from streamer.inference.autoregressive import PROBE_TEXT, Autoregressive
from streamer.inference.model import CPU_BATCHING, CUDA_BATCHING, NON_FINITE, Batching, Encoded, NonFinite
from streamer.inference.options import ScoringOptions
from streamer.inference.params import read_params
from streamer.inference.reference import Located
from streamer.inference.spec import WorkerSpec

# A pass gives a number for each token of the vocabulary at each position: they are what bounds a batch.
_CPU_LOGIT_BYTES = 1 << 28
_CUDA_LOGIT_BYTES = 1 << 32
_LOGIT_BYTES = 8  # as computed, and once more in fp32


class ScoringParams(msgspec.Struct, frozen=True):
    """An event's params."""

    per_token: Annotated[bool | None, msgspec.Meta(description="true or false")] = None


class _Scored(msgspec.Struct, frozen=True, gc=False):
    ids: list[int]
    per_token: bool


class Scoring(Autoregressive):
    """Output `{"log_likelihood", "perplexity", "tokens"}`: of every token but the first given those before it, in
    nats; with `per_token` also `"per_token": [{"token", "log_likelihood"}]`."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self.spec = spec
        self.options = self.options_as(ScoringOptions)
        super().__init__(spec, located, worker)
        self.batching = self._batching()
        self.probe = self._encoded(self.ids_of([PROBE_TEXT])[0][: self.max_tokens], False, per_token=False)

    def network_class(self) -> Any:
        """Decoders with a language-model head."""
        return AutoModelForCausalLM

    def likelihood(self, network: Any, text: str) -> float:
        """Of each token given those before it."""
        ids = self.ids_of([text])[0][: self.max_tokens]
        with torch.inference_mode():
            return float(_log_likelihoods(network, self.tensor([ids])).mean())

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Tokenise all in one call."""
        encoded: list[Encoded | DataFailure] = []
        for index, ids in enumerate(self.ids_of(texts)):
            asked = read_params(ScoringParams, params[index] if params else None, self.spec.task)
            if isinstance(asked, DataFailure):
                encoded.append(asked)
                continue
            truncated = len(ids) > self.max_tokens
            if truncated and self.spec.on_overflow == "reject":
                encoded.append(self.too_long(self.max_tokens))
                continue
            per_token = self.options.per_token if asked.per_token is None else asked.per_token
            encoded.append(self._encoded(ids[: self.max_tokens], truncated, per_token=per_token))
        self.refuse_pairs(encoded, pairs)
        return encoded

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """One pass. Padding stands behind the texts, and no position of a causal network sees what comes after it:
        that needs no mask, and holds for recurrent networks too."""
        rows = [one.content.ids for one in batch]
        longest = max(2, *map(len, rows)) if len(rows) > 1 else max(2, len(rows[0]))
        with torch.inference_mode():
            found = _log_likelihoods(self.network, self.tensor([ids + [0] * (longest - len(ids)) for ids in rows]))
        return [
            self._answer(one, own[: max(0, len(one.content.ids) - 1)])
            for one, own in zip(batch, found.tolist(), strict=True)
        ]

    def _answer(self, one: Encoded, found: list[float]) -> Answer | NonFinite:
        total = math.fsum(found)
        if not math.isfinite(total):
            return NON_FINITE
        perplexity = math.exp(min(-total / len(found), 700.0)) if found else 1.0
        output: dict[str, Any] = {"log_likelihood": total, "perplexity": perplexity, "tokens": len(found)}
        if one.content.per_token:
            names = self.decoder.convert_ids_to_tokens(one.content.ids[1:])
            output["per_token"] = [
                {"token": name, "log_likelihood": value} for name, value in zip(names, found, strict=True)
            ]
        return Answer(msgspec.json.encode(output), one.truncated, False, one.tokens)

    @staticmethod
    def _encoded(ids: list[int], truncated: bool, *, per_token: bool) -> Encoded:
        return Encoded(max(2, len(ids)), len(ids), truncated, _Scored(ids, per_token))

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
