"""What became of the records that a replay sent: answered, failed again, or not read yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Final

from streamer.config.load import Config
from streamer.core import headers as names
from streamer.core.deadletters.letter import Place
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import Job
from streamer.core.events.record_headers import headers_of
from streamer.core.record import Headers, Record, TopicPartition
from streamer.errors import UsageError
from streamer.ops.dlq.find import read_closed
from streamer.ops.dlq.ports import Log, Offsets

EXAMPLES: Final = 5
_SKEW_MS: Final = 60_000  # how far the clocks of hosts may differ


@dataclass(slots=True)
class Outcome:
    """`sent` counts what the job moved, and the others add up to it. `skipped` ones have no value, `elsewhere` are
    those in topics that no pipeline of the configuration reads, `gone` those that retention has deleted. `failed` is by
    code, `examples` are some of their new dead letters."""

    job: str
    sent: int
    answered: int = 0
    waiting: int = 0
    skipped: int = 0
    elsewhere: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    examples: list[Place] = field(default_factory=list)

    @property
    def gone(self) -> int:
        """See the class."""
        found = self.answered + self.waiting + self.skipped + self.elsewhere + self.failed.total()
        return max(self.sent - found, 0)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "job": self.job,
            "sent": self.sent,
            "answered": self.answered,
            "failed_again": self.failed.total(),
            "failed_by_code": dict(self.failed),
            "not_yet": self.waiting,
            "skipped": self.skipped,
            "elsewhere": self.elsewhere,
            "gone": self.gone,
            "examples": [str(place) for place in self.examples],
        }


def outcome(log: Log, config: Config, offsets: Offsets, name: str) -> Outcome:
    """What became of this job's records by now.

    One that is settled and has no dead letter is answered: outcomes and offsets are written together. Raises UsageError
    when there is no such job, or it sent nothing.
    """
    with read_closed(log) as closed:
        job, count = closed.jobs.get(name), closed.count(name)
    if job is None:
        raise UsageError(f"no job {name}; see `streamer dlq audit`")
    if job.action not in ("replay", "edit"):
        raise UsageError(f"job {name} is a {job.action}: it sent no records")
    found = Outcome(name, count)
    since_ms = int(datetime.fromisoformat(job.time).timestamp() * 1000) - _SKEW_MS
    failed = _failed(log, config, offsets, since_ms)
    for topic in _targets(config, job):
        if log.identity(topic) is None:
            continue
        settled = _settled(config, offsets, topic)
        for record, headers in _with_headers(_since(log, offsets, topic, since_ms)):
            sent = dict(headers or ())
            if sent.get(names.REPLAY_JOB) != name.encode():
                continue
            partition, offset = (topic, record.partition()), record.offset()
            addressee = sent.get(names.REPLAY_PIPELINE)
            readers = {
                pipeline: places.get(partition, 0)
                for pipeline, places in settled.items()
                if addressee in (None, pipeline.encode())
            }
            again = failed.get((*partition, offset))
            if again is not None:
                found.failed[again[0]] += 1
                if len(found.examples) < EXAMPLES:
                    found.examples.append(again[1])
            elif not readers:
                found.elsewhere += 1
            elif min(readers.values()) <= offset:
                found.waiting += 1
            elif record.value() is None:
                found.skipped += 1
            else:
                found.answered += 1
    return found


def _targets(config: Config, job: Job) -> list[str]:
    if to := job.wanted.get("to"):
        return [str(to)]
    return sorted({topic for pipeline in config.pipelines.values() for topic in pipeline.input})


def _settled(config: Config, offsets: Offsets, topic: str) -> dict[str, dict[TopicPartition, int]]:
    """Up to where each pipeline that reads the topic has settled it."""
    places = offsets.partitions([topic])
    return {
        name: dict(offsets.committed(pipeline.group, places))
        for name, pipeline in config.pipelines.items()
        if topic in pipeline.input
    }


def _failed(log: Log, config: Config, offsets: Offsets, since_ms: int) -> dict[tuple[str, int, int], tuple[str, Place]]:
    """Code and place of the dead letters that were written since, by the place of their record."""
    found: dict[tuple[str, int, int], tuple[str, Place]] = {}
    selector = Selector(Selection())
    for topic in dict.fromkeys(pipeline.dead_letter for pipeline in config.pipelines.values()):
        if log.identity(topic) is None:
            continue
        letters = chain.from_iterable(map(selector.pick, _since(log, offsets, topic, since_ms)))
        for letter in letters:
            reason = letter.reason
            if reason.topic is not None and reason.partition is not None and reason.offset is not None:
                found[reason.topic, reason.partition, reason.offset] = reason.code, letter.place
    return found


def _since(log: Log, offsets: Offsets, topic: str, since_ms: int) -> Iterator[list[Record]]:
    found = offsets.at_time(offsets.partitions([topic]), since_ms)
    starts = {partition: offset for (_, partition), offset in found.items()}
    with log.scan(topic) as scan:
        ends = {partition: end for partition, end in scan.ends.items() if partition in starts}
    with log.scan(topic, starts=starts, ends=ends) as scan:
        yield from scan.batches()


def _with_headers(batches: Iterable[list[Record]]) -> Iterator[tuple[Record, Headers | None]]:
    for records in batches:
        yield from zip(records, headers_of(records), strict=True)
