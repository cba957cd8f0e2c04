"""What a replay does with one dead letter: where it goes and with which headers, or why it may not go.

A replayed record is the original one, its `traceparent` included, plus `streamer.replay.*`, which keep its id, count
its failures and name the one pipeline that is to read it, and `streamer.origin.*`, the place where it lay first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from streamer.core import headers as names
from streamer.core.deadletters.destinations import Destinations, Refusal
from streamer.core.deadletters.families import Family, count, without_reason
from streamer.core.deadletters.letter import DeadLetter
from streamer.core.deadletters.state import STATE_TOPIC, State, state_record
from streamer.core.events.codec import Codec, Framed
from streamer.core.events.diagnosis import MAX_ID_CHARS
from streamer.core.output import Output, size_bytes
from streamer.core.record import Headers, ReadRecord, Segment
from streamer.errors import DataFailure

MAX_ATTEMPTS = 5
UNCHANGED = Refusal("it was not changed, and would fail again")
_OURS = ("streamer.replay.", "streamer.origin.")


class Target(Protocol):
    """A topic to replay to; None where the cluster does not let us see the limit."""

    @property
    def partitions(self) -> int: ...
    @property
    def max_message_bytes(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of a dead letter: all `outputs` or none of them. `topic` is "" when it goes nowhere."""

    topic: str
    partition: int
    outputs: tuple[Output, ...]


# None leaves a dead letter out, as if it had not been asked for.
Decide = Callable[[DeadLetter], Move | Refusal | None]


@dataclass(frozen=True, slots=True)
class Signature:
    """Who moves the dead letters, as which job, and when (RFC 3339)."""

    job: str
    by: str
    time: str


@dataclass(frozen=True, slots=True)
class Replay:
    """Sends dead letters to where `destinations` says; `target` describes a topic, None for one that is not there.

    `change` gives another value for a dead letter, or a Refusal; one that it leaves as it is stays. To its own topic a
    record goes on its own partition; to another one on the same number, or that number modulo the partitions there, so
    that the order of each origin partition is kept.
    """

    signature: Signature
    target: Callable[[str], Target | None]
    destinations: Destinations
    max_attempts: int = MAX_ATTEMPTS
    change: Callable[[DeadLetter], bytes | Refusal | None] | None = None

    def __call__(self, letter: DeadLetter) -> Move | Refusal:
        """The move of a dead letter, or why there is none."""
        reason, headers = letter.reason, letter.headers
        address = self.destinations(reason)
        if isinstance(address, Refusal):
            return address
        topic = address.topic
        if headers is None:
            return Refusal("a header's name is not UTF-8, so its headers can't be kept: discard it")
        if reason.omitted:
            return Refusal(f"its {' and '.join(reason.omitted)} did not fit the dead-letter topic: discard it")
        if reason.family is Family.SHARE and letter.record.value() is None:
            return Refusal("its share group does not copy records (errors.deadletterqueue.copy.record.enable)")
        attempts = failures(letter, headers)
        if attempts >= self.max_attempts:
            return Refusal(f"it has failed {attempts} times, --max-attempts is {self.max_attempts}: fix it first")
        value = self.change(letter) if self.change else letter.record.value()
        if isinstance(value, Refusal):
            return value
        if self.change and value == letter.record.value():
            return UNCHANGED
        target = self.target(topic)
        if target is None:
            return Refusal(f"topic {topic} is gone: create it again, or give --to TOPIC")
        partition = reason.partition if reason.partition is not None else letter.record.partition()
        if partition >= target.partitions:
            if not self.destinations.to:
                return Refusal(f"{topic} has no partition {partition} any more: give --to {topic}")
            partition %= target.partitions
        key = letter.record.key()
        replayed = replayed_headers(letter, headers, value, attempts, self.signature.job, address.pipeline)
        limit = target.max_message_bytes
        if limit is not None and size_bytes(key, value, replayed) > limit:
            return Refusal(f"with its replay headers it is over max.message.bytes of {topic} ({limit}): raise that")
        sign, edited = self.signature, self.change is not None
        state = State("replayed", sign.job, sign.by, sign.time, letter.timestamp_ms, edited=edited)
        return Move(topic, partition, ((topic, partition, key, value, replayed), _state_output(letter, state)))


@dataclass(frozen=True, slots=True)
class Mark:
    """Closes dead letters as discarded, or opens them again: the records stay where they are, and what a replay sent
    stays where it was sent."""

    signature: Signature
    state: Literal["discarded", "reopened"]
    reason: str = ""

    def __call__(self, letter: DeadLetter) -> Move:
        """A move that only writes the state."""
        sign = self.signature
        state = State(self.state, sign.job, sign.by, sign.time, letter.timestamp_ms, reason=self.reason)
        return Move("", 0, (_state_output(letter, state),))


def failures(letter: DeadLetter, headers: Headers) -> int:
    """How often a record has failed. Others' dead letters count deliveries and retries, not what became of replays;
    for these the header of our last replay does."""
    if letter.reason.family is Family.STREAMER:
        return letter.reason.attempts
    return (count(dict(headers).get(names.REPLAY_ATTEMPTS)) or 0) + 1


def replayed_headers(
    letter: DeadLetter, headers: Headers, value: bytes | None, attempts: int, job: str, addressee: str
) -> Headers:
    """The headers of the replayed record. The `addressee` is the one pipeline that is to read it, "" for any."""
    reason = letter.reason
    own = without_reason(headers, reason.family)
    found = dict(own)
    ours: Headers = [
        (names.REPLAY_ID, replay_id(letter, own, value).encode()),
        (names.REPLAY_ATTEMPTS, b"%d" % attempts),
        (names.REPLAY_JOB, job.encode()),
    ]
    if addressee:
        ours.append((names.REPLAY_PIPELINE, addressee.encode()))
    here = (reason.topic, reason.partition, reason.offset)
    for name, part in zip((names.ORIGIN_TOPIC, names.ORIGIN_PARTITION, names.ORIGIN_OFFSET), here, strict=True):
        first = found.get(name) if names.ORIGIN_TOPIC in found else None if part is None else str(part).encode()
        if first is not None:
            ours.append((name, first))
    return [header for header in own if not header[0].startswith(_OURS)] + ours


def replay_id(letter: DeadLetter, headers: Headers, value: bytes | None) -> str:
    """The id that the record's result is to carry: the one it would have had where it lay first.

    That of an earlier replay, the CloudEvent's, the body's (also where the rest of the body is no event), else the
    origin's place.
    """
    found = dict(headers)
    for name in (names.REPLAY_ID, names.CE_ID):
        given = found.get(name)
        if given is not None and (text := _valid_id(given.decode("utf-8", "replace"))) is not None:
            return text
    if (inner := _id_inside(letter, headers, value)) is not None:
        return inner
    return letter.origin if letter.reason.topic is not None else str(letter.place)


def event_id(letter: DeadLetter) -> str:
    """The id that a result of this dead letter's record has, or would have."""
    own = without_reason(letter.headers or [], letter.reason.family)
    return replay_id(letter, own, letter.record.value())


def _id_inside(letter: DeadLetter, headers: Headers, value: bytes | None) -> str | None:
    """The id in the value, as the codec reads it; also where the rest of the value is no event."""
    topic = letter.reason.topic or letter.place.topic
    segment = Segment(topic, letter.place.partition, 0, [ReadRecord(letter.record, headers, value)])
    reading = letter.reading
    shape, schemas = (reading.shape, reading.schemas) if isinstance(reading, Framed) else (reading, None)
    codec = Codec("", shape=shape, schemas=schemas)
    codec.unknown(segment)  # these schemas are learned by being asked for
    codec.decode(segment)
    event = segment.events[0]
    if event is not None:
        return None if event.id is None else str(event.id)
    if schemas is not None:
        found = schemas.open(value or b"", headers, topic)
        if isinstance(found, DataFailure):
            return None
        value = found
    if shape is not None:
        given_id = shape.read_id(value or b"")
        return None if given_id is None else str(given_id)
    try:
        return _valid_id(str(msgspec.json.decode(value or b"", type=_WithId).id))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _valid_id(text: str) -> str | None:
    return text if 1 <= len(text) <= MAX_ID_CHARS and "\ufffd" not in text else None


def _state_output(letter: DeadLetter, state: State) -> Output:
    key, value = state_record(letter.place, state)
    return STATE_TOPIC, -1, key, value, []


class _WithId(msgspec.Struct):
    id: str | int
