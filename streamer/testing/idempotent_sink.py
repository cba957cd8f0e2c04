"""At least once over the in-memory log."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from streamer.core.pipeline.protocol import Settle, Settled, Unsettled
from streamer.core.record import TopicPartition
from streamer.core.settle.at_least_once import AtLeastOnce
from streamer.core.settle.calls import Act, Asked, Call, CommitOffsets, Failed, Steps
from streamer.testing.clock import Wait
from streamer.testing.log_error import LogError
from streamer.testing.sink import OFFSETS_S, PRODUCE_S, LogSink
from streamer.testing.trouble import Stage, Trouble


class MemoryIdempotentSink(LogSink):
    """At least once, as the real `IdempotentSink`."""

    def _begin(self) -> None:
        self._steps = AtLeastOnce()

    def _settle(self, plan: Settle) -> Steps[Settled | Unsettled]:
        return self._steps.settle(plan)

    def _call(self, asked: Asked, plan: Settle) -> Generator[Wait, None, Any]:
        match asked:
            case Call.DELIVER:
                return None  # what is appended is there
            case CommitOffsets():
                yield self._before(Stage.OFFSETS, OFFSETS_S)
                yield from self._call_source(lambda: self._commit(plan, asked.offsets))
                return {}
            case _:
                return (yield from super()._call(asked, plan))

    def _write(self, plan: Settle) -> Generator[Wait, None, None]:
        outputs = self._outputs(plan)
        self._refuse(plan, outputs)
        yield self._before(Stage.CHECK, PRODUCE_S)
        delivered = len(outputs)
        if self._strikes(Trouble.UNDELIVERED):
            delivered //= 2
            self._reports = [Failed(Act.REBUILD, "_MSG_TIMED_OUT")]
        for topic, partition, key, value, headers in outputs[:delivered]:
            self._log.append(topic, partition, value, key, headers, self._wall_ms())

    def _commit(self, plan: Settle, offsets: dict[TopicPartition, int]) -> None:
        """On the source's task, so that ownership can't change between look and commit."""
        ownership = self._source.ownership
        if not ownership.holds(plan.epochs) or self._strikes(Trouble.COMMIT_FAILED):
            raise LogError("ILLEGAL_GENERATION")
        self._group.commit(offsets, ownership.metadata, self._notes(offsets))
        if self._strikes(Trouble.COMMIT_UNCLEAR):
            raise LogError("_TIMED_OUT")
