"""Ending the hold of a partition: its head becomes a dead letter, or is tried again (decision 7)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from streamer.config.load import Config
from streamer.core.deadletters.burial import buried
from streamer.core.output import Output
from streamer.core.pipeline.attempts import Mark, Note
from streamer.core.record import Record, TopicPartition
from streamer.errors import UsageError
from streamer.ops.dlq.ports import Log

DEFAULT_BYTES = 1_048_588
"""`max.message.bytes` of a topic that does not say."""


class GroupCopier(Protocol):
    """Commits an offset of a group, and records beside it, together or not at all."""

    def settle(self, outputs: Sequence[Output], partition: TopicPartition, mark: Mark) -> None:
        """Raises StreamerError when nothing of it is written."""
        ...


class Groups(Protocol):
    """The groups of a cluster."""

    def committed(self, group: str, partition: TopicPartition) -> Mark:
        """The offset that is settled, and its metadata."""
        ...

    def open(self, group: str, limit_bytes: int | None) -> AbstractContextManager[GroupCopier]:
        """A copier for this group, with records of at most this size. A second one ends the first."""
        ...


@dataclass(frozen=True, slots=True)
class Hold:
    """A partition that a pipeline holds, and what is committed of it."""

    pipeline: str
    group: str
    dead_letter: str
    partition: TopicPartition
    committed: Mark

    @property
    def note(self) -> Note:
        """Who died, and of which record."""
        return Note.read(self.committed[1])


def find_hold(config: Config, groups: Groups, partition: TopicPartition, pipeline: str | None) -> Hold:
    """The hold of this partition by this pipeline, or by the only one that holds it. Raises UsageError."""
    where = f"{partition[0]}/{partition[1]}"
    readers = [name for name, one in config.pipelines.items() if partition[0] in one.input and pipeline in (None, name)]
    if not readers:
        who = f"{pipeline} is not a pipeline that" if pipeline else "no pipeline of the configuration"
        raise UsageError(f"{who} reads {partition[0]}: name the configuration that the pipeline runs with")
    holds, offsets = [], []
    for name in readers:
        one = config.pipelines[name]
        hold = Hold(name, one.group, one.dead_letter, partition, groups.committed(one.group, partition))
        holds += [hold] if hold.note.held else []
        offsets.append(f"{name} reads on from {max(hold.committed[0], 0)}")
    if len(holds) > 1:
        names = ", ".join(hold.pipeline for hold in holds)
        raise UsageError(f"{where} is held by {names}: choose one with --pipeline")
    if not holds:
        raise UsageError(f"{where} is not held: {', '.join(offsets)}; nothing was written")
    return holds[0]


def head_of(log: Log, hold: Hold, offset: int) -> Record:
    """The record at the head of a held partition, which must be this one. Raises UsageError."""
    (topic, number), start = hold.partition, hold.committed[0]
    where, at = f"{topic}/{number}", hold.note.at
    if offset != at:
        settled = "was settled before" if offset < start else "is not at its head"
        raise UsageError(f"{where}/{offset} {settled}: {where} is held at {where}/{at}; nothing was written")
    with log.scan(topic, starts={number: start}, ends={number: at + 1}) as scan:
        found = next((record for batch in scan.batches() for record in batch), None)
    if found is None or found.offset() != at:
        raise UsageError(f"{where}/{at} is gone, e.g. by retention: `streamer dlq release {where}` continues after it")
    return found


def end_hold(log: Log, groups: Groups, hold: Hold, head: Record | None, time_ms: int) -> None:
    """Bury the head, or try again where there is none given; from then on the pipeline reads the partition with care.

    Raises UsageError when the hold is not what it was, StreamerError when nothing was written.
    """
    offset, limit_bytes = hold.committed[0], None
    if head is not None:
        offset, topic = head.offset() + 1, log.describe([hold.dead_letter])[hold.dead_letter]
        if topic is None or topic.partitions <= head.partition():
            raise UsageError(f"{hold.dead_letter} has no partition {head.partition()}: run `streamer topics create`")
        limit_bytes = topic.max_message_bytes
    with groups.open(hold.group, limit_bytes) as copier:
        # Who opened a copier before us can write no more, so that what is read now stays until we have written.
        if groups.committed(hold.group, hold.partition) != hold.committed:
            raise UsageError("somebody else has ended this hold in the meantime; nothing was written")
        outputs = []
        if head is not None:
            outputs.append(
                buried(
                    head,
                    len(hold.note.by),
                    pipeline=hold.pipeline,
                    dead_letter_topic=hold.dead_letter,
                    limit_bytes=limit_bytes or DEFAULT_BYTES,
                    time_ms=time_ms,
                )
            )
        copier.settle(outputs, hold.partition, (offset, hold.note.after_hold().write()))
