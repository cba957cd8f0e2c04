"""fill-mask: what a masked language model would write in the place of each mask token of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers
import torch
from transformers import AutoModelForMaskedLM

from streamer.core.record import Answer
from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.backends.numbers import float32_lists
from streamer.inference.backends.torch_model import TorchModel
from streamer.inference.model import NON_FINITE, Encoded, NonFinite
from streamer.inference.tasks.family import Asked, Numbers, groups
from streamer.inference.tasks.options import FillMaskOptions, TopK
from streamer.inference.worker import sizes
from streamer.inference.worker.sizes import too_large
from streamer.model import Input


class FillMaskParams(msgspec.Struct, frozen=True):
    """How many candidates for this event."""

    top_k: TopK | None = None


class Masks(msgspec.Struct, frozen=True, gc=False):
    """How many masks the text has, and how many candidates are asked for each."""

    count: int
    top_k: int


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A token of the vocabulary, its number there, and its probability."""

    token: str
    token_id: int
    score: float


class FillMask(TorchModel):
    """Output `{"candidates": [[{"token", "token_id", "score"}, …], …]}`: for each mask the best, best first."""

    tolerance = 0.03  # of a probability
    params = FillMaskParams
    reads_mask = True

    def read_options(self, path: Path, options: dict[str, Any]) -> None:
        """Refuses models whose tokenizer has no mask token."""
        self._top_k = self.options_as(FillMaskOptions, options).top_k
        if self.tokenizer.mask_token is None or self.tokenizer.mask_id is None:
            raise ModelError("the tokenizer of the model has no mask token: it was not trained for fill-mask")
        self._mask_token, self._mask_id = self.tokenizer.mask_token, self.tokenizer.mask_id

    def network_class(self) -> Any:
        """Fails to load where the weights have no such head."""
        return AutoModelForMaskedLM

    def ask(self, text: str, pair: str | None, params: FillMaskParams) -> Asked:
        """The text as it is."""
        return Asked([text], params.top_k or self._top_k)

    def details(self, asked: Asked, encodings: list[tokenizers.Encoding]) -> Masks | DataFailure:
        """Masks that were cut off have no candidates."""
        count = encodings[0].ids.count(self._mask_id)
        if count:
            return too_large(scores=count * self.tokenizer.size) or Masks(count, asked.own)
        if self.tokenizer.is_cut(encodings[0]) and self._mask_token in asked.rows[0]:
            message = f"the text's masks lie beyond the {self.tokenizer.max_tokens} tokens that the model reads"
            return DataFailure(Code.INFER_TOO_LONG, message)
        message = f"the text holds no mask: task fill-mask needs {self._mask_token} in it"
        return DataFailure(Code.VALIDATE_TEXT, message)

    def check_inputs(self, texts: Sequence[str]) -> list[Input]:
        """The known texts behind a mask."""
        return [Input(f"{self._mask_token} {text}", None, {}) for text in texts]

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """In parts that hold no more scores than one text may, those with as many masks together: a row takes room for
        as many as the one with the most."""
        room = max(1, sizes.MAX_SCORES // self.tokenizer.size)
        masks = [one.content.own.count for one in batch]
        if len(batch) * max(masks) <= room:
            return super().forward(batch)
        order = sorted(range(len(batch)), key=masks.__getitem__, reverse=True)
        answers: list[Answer | NonFinite] = [NON_FINITE] * len(batch)
        while order:
            count = max(1, room // masks[order[0]])
            part, order = order[:count], order[count:]
            for index, answer in zip(part, super().forward([batch[index] for index in part]), strict=True):
                answers[index] = answer
        return answers

    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """(n, most masks of a row, vocabulary): probabilities. A row with fewer masks repeats its first tokens'."""
        masked = torch.eq(inputs["input_ids"], self._mask_id)
        most = int(masked.sum(dim=1).max())
        # Stable: the places of the masks come first, in their order.
        places = torch.argsort(~masked, dim=1, stable=True)[:, :most]
        with only(self.network, places) if most < masked.shape[1] else nullcontext():
            logits: torch.Tensor = self.run(inputs, mask).logits
        if logits.shape[1] != most or most == masked.shape[1]:  # the head did not go by the encoder's vectors alone
            logits = _gathered(logits, places)
        return logits.float().softmax(-1)

    def distance(self, numbers: Numbers, reference: Numbers) -> float:
        """The largest difference of a score, of the masks that both have."""
        count = min(len(numbers), len(reference))
        return float(np.abs(numbers[:count] - reference[:count]).max())

    def outputs(self, batch: Sequence[Encoded], numbers: list[Numbers]) -> list[bytes]:
        """Candidates of each mask."""
        encode = msgspec.json.Encoder().encode
        outputs = []
        for one, (scores,) in zip(batch, groups(batch, numbers), strict=True):
            masks: Masks = one.content.own
            candidates = [self._candidates(row, masks.top_k) for row in scores[: masks.count]]
            outputs.append(encode({"candidates": candidates}))
        return outputs

    def _candidates(self, scores: Numbers, top_k: int) -> list[Candidate]:
        top_k = min(top_k, len(scores))
        best = np.argpartition(-scores, top_k - 1)[:top_k]
        best = best[np.argsort(-scores[best], kind="stable")]
        (rounded,) = float32_lists(scores[best][None])
        return [
            Candidate(self.tokenizer.decode(token), token, score)
            for token, score in zip(best.tolist(), rounded, strict=True)
        ]


@contextmanager
def only(network: torch.nn.Module, places: torch.Tensor) -> Iterator[None]:
    """Let the head see the encoder's vectors at `places` only: for all tokens, the logits of a vocabulary would take
    a hundred times the memory of the rest."""
    encoder: Any = getattr(network, "base_model", network)

    def keep(_: torch.nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = _gathered(output.last_hidden_state, places)
        return output

    if encoder is network:
        yield
        return
    hook = encoder.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()


def _gathered(vectors: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return vectors.gather(1, places.unsqueeze(-1).expand(-1, -1, vectors.shape[-1]))
