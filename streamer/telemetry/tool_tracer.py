"""Spans of the tools: of what is no micro-batch, and seldom enough to be told one by one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal

from streamer.core.record import TraceParent
from streamer.core.trace_sampler import TraceSampler
from streamer.telemetry.spans import Link, Span, ToolSpan

Offer = Callable[[Sequence[Span]], None]


@dataclass(slots=True, kw_only=True)
class OpenSpan:
    """A span until it ends, with the `with` block that it stands for. Attributes and links may be added until then, and
    so may `error`, the class of what went wrong: else it is that of the exception that leaves the block."""

    name: str
    context: TraceParent
    kind: Literal["internal", "producer", "server"]
    attributes: dict[str, str | int]
    parent: TraceParent | None = None
    remote: bool = False
    links: list[Link] = field(default_factory=list)
    error: str = ""
    start_ns: int = field(default_factory=time.time_ns)
    offer: Offer | None = None

    @property
    def is_sent(self) -> bool:
        """Whether anybody will see it."""
        return self.offer is not None

    def __enter__(self) -> OpenSpan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(kind.__name__ if kind else "")

    def end(self, error: str = "") -> None:
        """Send it, if it is sampled."""
        if self.offer is None:
            return
        span = ToolSpan(
            name=self.name,
            trace_id=self.context.trace_id,
            span_id=self.context.span_id,
            start_ns=self.start_ns,
            end_ns=time.time_ns(),
            parent_span_id=self.parent.span_id if self.parent else 0,
            remote=self.remote,
            kind=self.kind,
            attributes=self.attributes,
            links=self.links,
            error=self.error or error,
        )
        self.offer([span])


class ToolTracer:
    """Begins spans. `offer` takes those that are sampled when they end; None sends none."""

    def __init__(self, offer: Offer | None, sampler: TraceSampler) -> None:
        self._offer, self._sampler = offer, sampler

    def begin(
        self,
        name: str,
        attributes: Mapping[str, str | int],
        *,
        kind: Literal["internal", "producer", "server"] = "internal",
        parent: TraceParent | None = None,
        remote: bool = False,
        start_ns: int = 0,
    ) -> OpenSpan:
        """A span that begins now, or began then. With a parent it belongs to that one's trace; of a parent that is
        another program's (`remote`) the sampler says whether its decision holds."""
        trace_id = parent.trace_id if parent else secrets.randbits(128) or 1
        if parent is not None and (not remote or self._sampler.parent_based):
            sampled = parent.sampled
        else:
            sampled = self._sampler.takes(trace_id)
        return OpenSpan(
            name=name,
            context=TraceParent(trace_id, secrets.randbits(64) or 1, sampled),
            kind=kind,
            attributes=dict(attributes),
            parent=parent,
            remote=remote,
            start_ns=start_ns or time.time_ns(),
            offer=self._offer if sampled else None,
        )


NO_SPANS: Final = ToolTracer(None, TraceSampler())
"""For a tool whose spans nobody asked for."""
