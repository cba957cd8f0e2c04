"""Short words for tests of the pipeline's core: micro-batches of fake records, and a pipeline that is running."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeVar

from streamer.core.events.codec import Codec
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import (
    Assigned,
    Command,
    Dispatch,
    ForwardDone,
    ForwardStarted,
    Input,
    ModelCard,
    Settle,
    Taken,
    Tick,
    WorkerReady,
)
from streamer.core.record import Answer, MicroBatch, Segment
from streamer.errors import Code, DataFailure
from tests.records import FakeRecord

C = TypeVar("C")
CARD = ModelCard("m", "r1", "null", "float32", "torch")
BAD = DataFailure(Code.INFER_EXCEPTION, "the model raised", "ValueError")


def event(text: str) -> bytes:
    """A record's value."""
    return json.dumps({"text": text}).encode()


def segment(
    texts: Iterable[str | bytes | None], *, partition: int = 0, first: int = 0, epoch: int = 1, topic: str = "in"
) -> Segment:
    """A segment as the source makes it; a text becomes an event, bytes and None are values as they are."""
    records = [
        FakeRecord(event(text) if isinstance(text, str) else text, topic=topic, partition=partition, offset=offset)
        for offset, text in enumerate(texts, first)
    ]
    return Segment(topic, partition, epoch, list(records), size_bytes=100 * len(records))


def batch(number: int, *segments: Segment) -> MicroBatch:
    """A micro-batch of these segments."""
    return MicroBatch(number, list(segments), trace_id=number, span_id=number, taken_ns=0)


def taken(number: int, *segments: Segment) -> Taken:
    return Taken(batch(number, *segments))


class Kit:
    """A pipeline with ready workers and two owned partitions, and the commands that it gave."""

    def __init__(self, policy: Policy | None = None, card: ModelCard = CARD) -> None:
        self.pipeline = Pipeline(policy or Policy("p"), Codec("p"))
        self.now = 100.0
        self.commands: list[Command] = []
        self.feed(Tick())
        for worker in range(self.pipeline.policy.workers):
            self.feed(WorkerReady(worker, card))
        self.feed(Assigned({("in", 0): 1, ("in", 1): 1}))

    def feed(self, *facts: Input) -> list[Command]:
        """Hand facts in; returns the commands that followed."""
        new: list[Command] = []
        for fact in facts:
            new += self.pipeline.handle(fact, self.now)
        self.commands += new
        return new

    def of(self, kind: type[C], commands: list[Command] | None = None) -> list[C]:
        """The commands of one kind."""
        return [command for command in (self.commands if commands is None else commands) if isinstance(command, kind)]

    def last_work(self) -> Dispatch:
        return self.of(Dispatch)[-1]

    def answer(self, dispatch: Dispatch, bad: Iterable[str] = ()) -> list[Command]:
        """The worker does a work in one forward batch; texts in `bad` fail."""
        work = dispatch.work
        refused = set(bad)
        outcomes = [BAD if text in refused else Answer(b'{"n":"%b"}' % text.encode()) for text in work.texts]
        return self.feed(
            ForwardStarted(dispatch.worker, work.numbers), ForwardDone(dispatch.worker, work.numbers, outcomes)
        )

    def settles(self) -> list[Settle]:
        return self.of(Settle)
