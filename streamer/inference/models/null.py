"""`builtin:null`: takes any task and answers `{}` at once, for measuring everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.errors import DataFailure
from streamer.inference.model import CPU_BATCHING, Encoded, NonFinite
from streamer.inference.spec import WorkerSpec

_ENCODED = Encoded(length=1, tokens=0, truncated=False, content=None)
_ANSWER = Answer(b"{}")


class NullModel:
    """No model: the cost of this one is the cost of all else."""

    batching = CPU_BATCHING
    probe = _ENCODED

    def __init__(self, spec: WorkerSpec) -> None:
        self.card = ModelCard(
            name="null", revision="1", task=spec.task, dtype="none", backend="none", implementation="null=1"
        )

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """One unit each, whatever the text."""
        return [_ENCODED] * len(texts)

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite]:
        """`{}` for each."""
        return [_ANSWER] * len(batch)

    def free_memory(self) -> None:
        """Holds none."""
