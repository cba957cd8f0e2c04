"""A pipeline's partitions as the brokers alone tell of them, to who is not in its group: what waits, what stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from streamer.core.pipeline.attempts import standing_of
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason, Standing

# A transaction on the input that is open for longer is told of; one that a producer is about to commit is not.
OPEN_TRANSACTION_MS = 10_000


@dataclass(frozen=True, slots=True)
class View:
    """A partition of an input. `earliest` is the first offset that is there, `end` the one after the last committed
    record (where open transactions begin), `high` the one after the last record of all, and `start` where a pipeline
    goes on, or would begin. `settled` is None before the first settle, `note` its metadata.

    `first_ms` is when the first record from `start` on was written: 0 where it does not say, None where only
    transaction markers are left. `damage` says why that record can't be read, `framed` whether it is in the framing of
    a schema registry. `open_ms` is when the first record of an open transaction was written.
    """

    partition: TopicPartition
    earliest: int
    end: int
    high: int
    start: int
    settled: int | None = None
    note: str = ""
    first_ms: int | None = None
    damage: str = ""
    framed: bool = False
    open_ms: int | None = None

    @property
    def beyond_end(self) -> bool:
        """Whether the committed offset is not one of this log's."""
        return self.settled is not None and self.settled > self.high

    @property
    def records(self) -> int:
        """Records that are there and not settled, those of open transactions included; all that are there where the
        committed offset is none of the log's. May count transaction markers, except that it is 0 where nothing else is
        left.
        """
        if self.beyond_end:
            return self.high - self.earliest
        committed = self.end - self.start if self.first_ms is not None or self.damage else 0
        return max(committed, 0) + self.high - self.end

    def age_s(self, now_ms: float) -> float | None:
        """How old the first of them is; 0 where there is none, None where it has no timestamp."""
        if not self.records:
            return 0.0
        written_ms = self.open_ms if self.first_ms is None else self.first_ms
        return max(now_ms - written_ms, 0) / 1000 if written_ms and not self.beyond_end else None


def standing(view: View, now_ms: float, *, group: str, address: str) -> Iterator[Standing]:
    """Why a partition stands, or will when a pipeline reads it. `address` is the brokers', for the commands that fix
    it."""
    topic, number = view.partition
    tools = f"--bootstrap-server {address}"
    reset = (
        f"stop the pipeline and run kafka-consumer-groups {tools} --group {group} --topic {topic}:{number}"
        " --reset-offsets --execute"
    )
    if view.beyond_end:
        assert view.settled is not None
        yield Standing(
            view.partition,
            view.settled,
            Reason.OFFSET_BEYOND_END,
            f"the committed offset lies beyond the log, which has {view.earliest:,} to {view.high:,}: the topic was"
            " recreated or truncated, or is another cluster's copy",
            'set on_out_of_range = "earliest" to read all that is there, or'
            f" {reset} --to-offset N, where N is the first record that was not answered",
        )
        return
    if view.damage:
        yield Standing(
            view.partition,
            view.start,
            Reason.UNREADABLE,
            f"the record there can't be read ({view.damage}): its batch is damaged, or unpacks to more than"
            " receive.message.max.bytes",
            "raise receive.message.max.bytes in kafka.properties if the batch is sound; else restore it from a replica,"
            f" or skip it: {reset} --to-offset N, where N is the first after the batch (kafka-dump-log shows it)",
        )
    if view.settled is not None and (held := standing_of(view.partition, (view.settled, view.note))):
        yield held
    age_ms = None if view.open_ms is None else now_ms - view.open_ms
    if view.end < view.high and (age_ms is None or not view.open_ms or age_ms > OPEN_TRANSACTION_MS):
        age = f" (its first record is {age_ms / 1000:,.0f} s old)" if age_ms and view.open_ms else ""
        yield Standing(
            view.partition,
            view.end,
            Reason.OPEN_TRANSACTION,
            f"a producer has opened a transaction there and not ended it{age}: {view.high - view.end:,} records from"
            " there on can't be read",
            f"end that producer; if it is gone, run kafka-transactions {tools} abort --topic {topic}"
            f" --partition {number} --start-offset {view.end}",
        )


def missing(inputs: Collection[str], written: Collection[str], partitions: Mapping[str, int]) -> Iterator[Standing]:
    """What of a pipeline's topics is not there. `partitions` counts each topic's (0: it is missing; no entry: we may
    not see it); `written` are those that need as many as the inputs have."""
    most = max((partitions.get(topic, 0) for topic in inputs), default=0)
    for topic in inputs:
        if partitions.get(topic) == 0:
            yield Standing(
                (topic, -1),
                -1,
                Reason.INPUT_MISSING,
                "the input topic does not exist",
                "create it (`streamer topics create --input-partitions N`), or correct `input`",
            )
    for topic in written:
        count = partitions.get(topic, most)
        if count == 0:
            what, fix = "the topic does not exist", "run `streamer topics create`"
            yield Standing((topic, -1), -1, Reason.OUTPUT_MISSING, what, fix)
        elif count < most:
            yield Standing(
                (topic, count),
                -1,
                Reason.OUTPUT_MISSING,
                f"it has {count} partitions, the input {most}: records of the other partitions have nowhere to go",
                f"kafka-topics --alter --topic {topic} --partitions {most}",
            )
