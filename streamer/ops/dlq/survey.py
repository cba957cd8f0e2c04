"""What an order would do to dead letters, before anything is written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from streamer.core.deadletters.destinations import Refusal
from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.replay import Decide, Move, Signature
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.selector import Selector
from streamer.core.deadletters.state import Job
from streamer.errors import ConfigurationError, UsageError
from streamer.ops.dlq.closed import Closed
from streamer.ops.dlq.find import read_closed
from streamer.ops.dlq.ports import Log, Target

DIGEST_CHARS: Final = 16

_DEFAULT_MESSAGE_BYTES = 1_048_588  # the brokers' own default of max.message.bytes


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. `wanted` says it in the words of the command, for the records of the job and of the audit.
    `most` bounds what the job moves in all its starts. `reopens` is a job whose dead letters are meant, "" for those
    that are open. `named` says that the operator chose the job's name."""

    action: str
    topics: Sequence[str]
    selection: Selection
    signature: Signature
    wanted: Mapping[str, Any]
    most: int | None = None
    rate_per_s: float | None = None
    reopens: str = ""
    named: bool = False

    def wants(self, letter: DeadLetter, closed: Closed) -> bool:
        """Whether a dead letter that its selection picked is open, or was closed by the job to reopen."""
        if not self.reopens:
            return not closed.holds(letter)
        state = closed.find(letter)
        return state is not None and state.job == self.reopens


@dataclass(slots=True)
class Refused:
    """Dead letters that stay, all for one reason."""

    example: Place
    count: int = 0


@dataclass(slots=True)
class Survey:
    """What would move where, and what would not.

    `moves` counts by dead-letter topic, target and its partition ("" and 0 for nowhere). `closed` are those that match
    but were replayed or discarded before, `before` those of them that the job itself did, at an earlier start. `digest`
    names the order and each dead letter that it would move, with its value and where it would go.
    `same_model` counts those that failed with the model that their pipeline runs now, by pipeline and model.
    `scattered` are the origin partitions whose dead letters lie on several partitions: among these their order is lost.
    """

    ends: dict[str, dict[int, int]]
    resumed: bool
    before: int
    digest: str = ""
    same_model: Counter[tuple[str, str]] = field(default_factory=Counter)
    moves: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    refused: dict[str, Refused] = field(default_factory=dict)
    closed: int = 0
    scattered: set[tuple[str, int]] = field(default_factory=set)
    _lying: dict[tuple[str, str, int], int] = field(default_factory=dict)
    _hashes: dict[tuple[str, int], Any] = field(default_factory=dict)
    _chosen: dict[str, dict[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many would move."""
        return self.moves.total()

    @property
    def stay(self) -> int:
        """How many are refused."""
        return sum(each.count for each in self.refused.values())

    def note(self, letter: DeadLetter, decision: Move | Refusal | None, models: Mapping[str, str]) -> None:
        """Count a dead letter; `models` are the pipelines' of now."""
        place, reason = letter.place, letter.reason
        if isinstance(decision, Refusal):
            self.refused.setdefault(decision.why, Refused(place)).count += 1
            return
        if decision is None:
            return
        self.moves[place.topic, decision.topic, decision.partition] += 1
        self._chosen.setdefault(place.topic, {})[place.partition] = place.offset + 1
        self._hash(letter, decision)
        if decision.topic and reason.model is not None and models.get(reason.pipeline or "") == reason.model:
            self.same_model[reason.pipeline or "", reason.model] += 1
        if reason.topic is not None and reason.partition is not None:
            origin = (place.topic, reason.topic, reason.partition)
            if self._lying.setdefault(origin, place.partition) != place.partition:
                self.scattered.add(origin[1:])

    def finish(self, order: Order, *, full: bool) -> None:
        """Give it its name. Where a bound made it `full`, nothing is read past the last ones that would move, so that
        these and no others are moved."""
        if full:
            self.ends = {topic: self._chosen.get(topic, {}) for topic in self.ends}
        job = order.signature.job if order.named else None
        asked = [order.action, job, order.wanted, order.rate_per_s, order.reopens]
        whole = hashlib.sha256(msgspec.json.encode(asked, order="sorted"))
        for place in sorted(self._hashes):
            whole.update(b"%b/%d " % (place[0].encode(), place[1]) + self._hashes[place].digest())
        self.digest = whole.hexdigest()[:DIGEST_CHARS]

    def _hash(self, letter: DeadLetter, decision: Move) -> None:
        place = letter.place
        found = self._hashes.get(place[:2])
        if found is None:
            found = self._hashes[place[:2]] = hashlib.sha256()
        value = decision.outputs[0][3] if decision.topic else None
        size = -1 if value is None else len(value)
        words = f"{place.offset} {letter.timestamp_ms} {decision.topic}/{decision.partition} {size} "
        found.update(words.encode() + (value or b""))


class Targets:
    """Topics to write to, each described once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[str, Target | None] = {}

    def __call__(self, topic: str) -> Target:
        """A topic. Raises ConfigurationError when it does not exist or may not be written."""
        target = self.find(topic)
        if target is None:
            raise ConfigurationError(
                f"there is no topic {topic} to write to, and nothing was moved; create it (`streamer topics create`"
                " makes streamer's own), or send the records elsewhere with --to TOPIC"
            )
        return target

    def find(self, topic: str) -> Target | None:
        """The same, None when it does not exist."""
        if topic not in self._known:
            self._known[topic] = self._writable(topic)
        return self._known[topic]

    @property
    def limits(self) -> list[int]:
        """`max.message.bytes` of the topics so far; the brokers' default where the cluster does not show it."""
        return [each.max_message_bytes or _DEFAULT_MESSAGE_BYTES for each in self._known.values() if each is not None]

    def _writable(self, topic: str) -> Target | None:
        target = self._log.describe([topic])[topic]
        if target is not None and target.rights is not None and "Write" not in target.rights:
            raise ConfigurationError(
                f"no right to Write topic {topic}, and nothing was moved; grant it with kafka-acls --add"
                f" --allow-principal User:NAME --operation Write --topic {topic}"
            )
        return target


def survey(
    log: Log,
    order: Order,
    decide: Decide,
    *,
    ends: Mapping[str, Mapping[int, int]] | None = None,
    models: Mapping[str, str] | None = None,
) -> Survey:
    """What the order would do now, up to `ends` where they are given. `models` is what each pipeline runs now, as
    `name@revision`, as far as it is known.

    Raises ConfigurationError when a topic or a right is missing, UsageError when its job has another order.
    """
    with read_closed(log) as closed:
        job = known_job(closed, order)
        fixed = {topic: dict(each) for topic, each in (job.ends if job else ends or {}).items()}
        found = Survey(fixed, job is not None, closed.count(order.signature.job))
        left = None if order.most is None else order.most - found.before
        selector = Selector(job.selection if job else order.selection, readings=log.readings)
        for topic in order.topics:
            for letter in _letters(log, topic, selector, found, in_turn=left is not None):
                if not order.wants(letter, closed):
                    found.closed += 1
                elif left is None or found.total < left:
                    found.note(letter, decide(letter), models or {})
    found.finish(order, full=left is not None and found.total >= left)
    return found


def _letters(log: Log, topic: str, selector: Selector, found: Survey, *, in_turn: bool) -> Iterator[DeadLetter]:
    """What the selector picks of a topic; one partition after another where it counts which come first."""
    with log.scan(topic, ends=found.ends.get(topic)) as scan:
        ends = found.ends[topic] = dict(scan.ends)
        if not in_turn:
            for records in scan.batches():
                yield from selector.pick(records)
            return
    for partition, end in sorted(ends.items()):
        if not end:
            continue
        with log.scan(topic, ends={partition: end}) as scan:
            for records in scan.batches():
                yield from selector.pick(records)


def known_job(closed: Closed, order: Order) -> Job | None:
    """The order's job, None at its first start. Raises UsageError when it was started with another order."""
    job = closed.jobs.get(order.signature.job)
    if job is None:
        return None
    if job.action != order.action or msgspec.json.encode(job.wanted) != msgspec.json.encode(order.wanted):
        asked = msgspec.json.encode(job.wanted).decode()
        raise UsageError(
            f"job {job.job} was started by {job.by} at {job.time} as another order ({job.action} {asked});"
            " repeat that one to continue it, or use another --job"
        )
    return job
