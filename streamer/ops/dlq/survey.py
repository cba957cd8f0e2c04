"""What an order would do to dead letters, before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.replay import Decide, Move, Refusal, Signature
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import Closed, Job
from streamer.errors import ConfigurationError, UsageError
from streamer.ops.dlq.find import read_closed
from streamer.ops.dlq.ports import Log, Target

_DEFAULT_MESSAGE_BYTES = 1_048_588  # the brokers' own default of max.message.bytes


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. `wanted` says it in the words of the command, for the records of the job and of the audit.
    `most` bounds what the job moves in all its starts."""

    action: str
    topics: Sequence[str]
    selection: Selection
    signature: Signature
    wanted: Mapping[str, Any]
    most: int | None = None
    rate_per_s: float | None = None


@dataclass(slots=True)
class Refused:
    """Dead letters that stay, all for one reason."""

    example: Place
    count: int = 0


@dataclass(slots=True)
class Survey:
    """What would move where, and what would not.

    `moves` counts by dead-letter topic, target and its partition ("" and 0 for nowhere). `closed` are those that match
    but were replayed or discarded before, `before` those of them that the job itself did, at an earlier start.
    `scattered` are the origin partitions whose dead letters lie on several partitions: among these their order is lost.
    """

    ends: dict[str, dict[int, int]]
    resumed: bool
    before: int
    moves: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    refused: dict[str, Refused] = field(default_factory=dict)
    closed: int = 0
    scattered: set[tuple[str, int]] = field(default_factory=set)
    _lying: dict[tuple[str, str, int], int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many would move."""
        return self.moves.total()

    @property
    def stay(self) -> int:
        """How many are refused."""
        return sum(each.count for each in self.refused.values())

    def note(self, letter: DeadLetter, decision: Move | Refusal | None) -> None:
        """Count a dead letter."""
        place, reason = letter.place, letter.reason
        if isinstance(decision, Refusal):
            self.refused.setdefault(decision.why, Refused(place)).count += 1
            return
        if decision is None:
            return
        self.moves[place.topic, decision.topic, decision.partition] += 1
        if reason.topic is not None and reason.partition is not None:
            origin = (place.topic, reason.topic, reason.partition)
            if self._lying.setdefault(origin, place.partition) != place.partition:
                self.scattered.add(origin[1:])


class Targets:
    """Topics to write to, each described once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[str, Target] = {}

    def __call__(self, topic: str) -> Target:
        """A topic. Raises ConfigurationError when it does not exist or may not be written."""
        if topic not in self._known:
            self._known[topic] = self._writable(topic)
        return self._known[topic]

    @property
    def limits(self) -> list[int]:
        """`max.message.bytes` of the topics so far; the brokers' default where the cluster does not show it."""
        return [target.max_message_bytes or _DEFAULT_MESSAGE_BYTES for target in self._known.values()]

    def _writable(self, topic: str) -> Target:
        target = self._log.describe([topic])[topic]
        if target is None:
            raise ConfigurationError(
                f"there is no topic {topic} to write to, and nothing was moved; make it (`streamer topics create` makes"
                " streamer's own), or send the records elsewhere with --to TOPIC"
            )
        if target.rights is not None and "Write" not in target.rights:
            raise ConfigurationError(
                f"no right to Write topic {topic}, and nothing was moved; grant it with kafka-acls --add"
                f" --allow-principal User:NAME --operation Write --topic {topic}"
            )
        return target


def survey(log: Log, order: Order, decide: Decide) -> Survey:
    """What the order would do now.

    Raises ConfigurationError when a topic or a right is missing, UsageError when its job has another order.
    """
    closed = read_closed(log)
    job = known_job(closed, order)
    found = Survey(dict(job.ends) if job else {}, job is not None, closed.count(order.signature.job))
    left = None if order.most is None else order.most - found.before
    selector = Selector(job.selection if job else order.selection, Closed(), with_closed=True)
    for topic in order.topics:
        with log.scan(topic, ends=found.ends.get(topic)) as scan:
            found.ends[topic] = dict(scan.ends)
            for records in scan.batches():
                for letter in selector.pick(records):
                    if closed.holds(letter):
                        found.closed += 1
                    elif left is None or found.total < left:
                        found.note(letter, decide(letter))
    return found


def known_job(closed: Closed, order: Order) -> Job | None:
    """The order's job, None at its first start. Raises UsageError when it was started with another order."""
    job = closed.jobs.get(order.signature.job)
    if job is None:
        return None
    if job.action != order.action or msgspec.json.encode(job.wanted) != msgspec.json.encode(order.wanted):
        asked = msgspec.json.encode(job.wanted).decode()
        raise UsageError(
            f"job {job.job} was started by {job.by} at {job.time} as another order ({job.action} {asked});"
            " repeat that one to go on with it, or take another --job"
        )
    return job
