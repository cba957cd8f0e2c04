"""What a worker asks of a model, whatever is behind it: encode texts, run batches of them, name a known input.

A family of tasks implements this in one file. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.errors import Code, DataFailure


class NonFinite(Enum):
    """In the place of an answer: the model's output held NaN or infinity."""

    NON_FINITE = 0


NON_FINITE: Final = NonFinite.NON_FINITE


@dataclass(frozen=True, slots=True)
class Input:
    """One computation's text, and its pair and params where the event has them."""

    text: str
    text_pair: str | None
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One computation ready to run.

    `length` is what it costs in a batch where all are padded to the longest; `tokens` is what the answer reports, 0
    where a model has none. `content` is the model's own.
    """

    length: int
    tokens: int
    truncated: bool
    content: Any


class Model(Protocol):
    """A loaded model. `encode` runs in a thread of its own beside `forward`; neither is ever called twice at a time."""

    card: ModelCard
    batch_tokens: int
    """The default bound of a forward batch: its longest length times its size."""
    probe: Encoded
    """A known input that always has a finite answer."""

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """One entry a text, in order. What no model run could mend is a failure already here."""
        ...

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """One entry a computation, in order. May raise: the caller finds out which of the batch is at fault."""
        ...

    def free_memory(self) -> None:
        """Give back what a failed forward left behind; called before the retry in smaller batches."""
        ...


def unknown_param(params: dict[str, Any] | None, known: frozenset[str], task: str) -> DataFailure | None:
    """The failure of a param that the task does not know; names are told, values never."""
    if not params or known.issuperset(params):
        return None
    name = sorted(params.keys() - known)[0][:64]
    takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
    return DataFailure(Code.VALIDATE_PARAMS, f"param {name!r} is unknown to task {task}: {takes}")


BatchTokens = Literal[4096, 32768]
CPU_BATCH_TOKENS: Final = 4096
CUDA_BATCH_TOKENS: Final = 32768
