"""Which traces are sampled: the samplers that the OpenTelemetry specification names, as one rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from streamer.core.record import MicroBatch, Segment

_MASK64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class TraceSampler:
    """Takes the share `ratio` (0 to 1) of traces, told by the low 64 bits of their ids, as the SDKs do. `parent_based`
    leaves the decision for a trace that a producer began with that producer."""

    parent_based: bool = True
    ratio: float = 1.0

    def takes(self, trace_id: int) -> bool:
        """Whether a trace that begins here is sampled."""
        return trace_id & _MASK64 < round(self.ratio * (1 << 64))

    def begin(self, batch: MicroBatch, *, traced: bool) -> None:
        """Note whether a micro-batch's own trace is sampled; where forward batches are `traced`, which
        one it is."""
        batch.sampled = self.takes(batch.trace_id)
        if traced and batch.sampled:
            ids = batch.trace_id.to_bytes(16, "big") + batch.span_id.to_bytes(8, "big")
            for segment in batch.segments:
                segment.trace = ids

    def decide(self, segments: Iterable[Segment]) -> None:
        """Note for the traces of decoded records whether they are sampled, where their producers do not decide."""
        if self.parent_based:
            return
        for segment in segments:
            if segment.traces is not None:
                segment.traces = [
                    trace and msgspec.structs.replace(trace, sampled=self.takes(trace.trace_id))
                    for trace in segment.traces
                ]
