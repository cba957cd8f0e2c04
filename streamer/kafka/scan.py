"""Read one topic once, from the earliest record up to ends fixed at the start: what looks at a topic must not chase it.

Committed records only, in no group, in whole batches: nothing is done per record that can be done per batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import cast

from confluent_kafka import Message, TopicPartition

from streamer.config.fields import KafkaConfig
from streamer.core.record import Record
from streamer.errors import DependencyError
from streamer.kafka.reader import GrouplessConsumer

BATCH_RECORDS = 1_000
_WAIT_S = 0.1


class Scan(GrouplessConsumer):
    """All partitions of a topic. `starts` and `ends` are offsets by partition; by default from the earliest record to
    the end found now, which is where open transactions begin.

    Raises ConfigurationError for a missing topic or right, DependencyError when the cluster does not answer.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        topic: str,
        *,
        starts: Mapping[int, int] | None = None,
        ends: Mapping[int, int] | None = None,
        timeout_s: float = 10,
    ) -> None:
        super().__init__(kafka, timeout_s)
        self._topic = topic
        try:
            marks = {each: self._watermarks(topic, each) for each in self._partitions(topic)}
        except BaseException:
            self.close()
            raise
        low, high = ({each: mark[which] for each, mark in marks.items()} for which in (0, 1))
        self.ends = high if ends is None else {each: min(ends.get(each, 0), high[each]) for each in high}
        self.starts = {each: max(low[each], (starts or {}).get(each, 0)) for each in high}

    @property
    def span(self) -> int:
        """Offsets to go over: no fewer than there are records, since transactions and compaction leave gaps."""
        return sum(max(0, end - self.starts[each]) for each, end in self.ends.items())

    def batches(self, timeout_s: float = 60) -> Iterator[list[Record]]:
        """The records, in the order of offsets within a partition; to be called once.

        Raises DependencyError when nothing comes for `timeout_s`.
        """
        left = {each: end for each, end in self.ends.items() if self.starts[each] < end}
        self._consumer.assign([TopicPartition(self._topic, each, self.starts[each]) for each in left])
        came = time.monotonic()
        while left:
            messages = self._consumer.consume(BATCH_RECORDS, _WAIT_S)
            if not messages:
                if time.monotonic() - came > timeout_s:
                    raise DependencyError(
                        f"Kafka at {self._address} sent nothing of topic {self._topic} for {timeout_s:g} s"
                    )
                continue
            found = cast("list[Record]", [message for message in messages if message.error() is None])
            if len(found) != len(messages):
                self._note_ends(messages, left)
            # Of each partition the last one counts; a partition that is done may go on giving what came since.
            last = {record.partition(): record for record in found}
            over = {each for each, record in last.items() if record.offset() + 1 >= left.get(each, 0)}
            if over:
                found = [record for record in found if record.offset() < self.ends[record.partition()]]
                for each in over:
                    left.pop(each, None)
            if found:
                yield found
                came = time.monotonic()  # whoever asks may take long

    def _note_ends(self, messages: list[Message], left: dict[int, int]) -> None:
        """Take partitions whose end is reached out of `left`; raise for what does not pass by itself."""
        for message in messages:
            number = message.partition() or 0
            if message.error() is not None and self._is_end(message) and (message.offset() or 0) >= left.get(number, 0):
                left.pop(number, None)
