"""The spans of a job that moves dead letters: one of its run, and below it one of each transaction, with links to the
traces of the records that moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from streamer.core.deadletters.letter import DeadLetter, trace_parent
from streamer.core.deadletters.replay import Move
from streamer.core.record import TraceParent
from streamer.ops.dlq.survey import Order
from streamer.telemetry.spans import Link
from streamer.telemetry.tool_tracer import ToolTracer

Moved = tuple[DeadLetter, Move]


class Traces:
    """Those of one run of an order, below `parent` where there is one. They say nothing of what the records hold."""

    def __init__(self, tracer: ToolTracer, order: Order, parent: TraceParent | None) -> None:
        self._tracer, self._order, self._parent = tracer, order, parent

    @contextmanager
    def run(self, stay: int, moved: Callable[[], int]) -> Iterator[None]:
        """The whole run; `moved` is asked at its end."""
        order = self._order
        attributes: dict[str, str | int] = {"streamer.job": order.signature.job, "streamer.refused": stay}
        with self._tracer.begin(f"{order.action} dead letters", attributes, parent=self._parent) as span:
            self._parent = span.context
            try:
                yield
            finally:
                span.attributes["streamer.records"] = moved()

    @contextmanager
    def transaction(self, moves: Sequence[Moved]) -> Iterator[None]:
        """A transaction that moves these, all of one dead-letter topic. The records that it sends keep the contexts of
        their producers, so that what becomes of them belongs to the traces that they began."""
        topics = {move.topic for _, move in moves if move.topic}
        attributes: dict[str, str | int] = {
            "streamer.job": self._order.signature.job,
            "streamer.dead_letter_topic": moves[0][0].place.topic,
            "messaging.system": "kafka",
            "messaging.batch.message_count": len(moves),
        }
        if topics:
            attributes |= {"messaging.operation.name": "send", "messaging.operation.type": "send"}
        if len(topics) == 1:
            attributes["messaging.destination.name"] = next(iter(topics))
        name = " ".join(["send", *topics]) if len(topics) == 1 else "send" if topics else "close"
        with self._tracer.begin(
            name, attributes, kind="producer" if topics else "internal", parent=self._parent
        ) as span:
            for letter, _ in moves if span.is_sent else ():
                if (trace := trace_parent(letter)) is not None:
                    span.links.append(Link(trace.trace_id, trace.span_id, *letter.place))
            yield
