"""What became of dead letters: the records of the compacted topic `streamer.dlq.state`, and what they add up to.

Key `{topic}/{partition}/{offset}` of the dead letter; key `job/{name}` for what a job set out to do; key
`claim/{topic}` for who moves the dead letters of a topic.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.selection import Selection

STATE_TOPIC = "streamer.dlq.state"
JOB_PREFIX, CLAIM_PREFIX = "job/", "claim/"
JOB_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


class State(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one dead letter. `timestamp_ms` is the dead letter's own: where a topic was deleted and recreated,
    another one may lie at its place. A reopened one is as open as one that has no state."""

    state: Literal["replayed", "discarded", "reopened"]
    job: str
    by: str
    time: str
    timestamp_ms: int
    reason: str = ""
    edited: bool = False


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job set out to do; a job that is started again goes on with it.

    `wanted` is what was asked for, in the words of the command; `selection` what that meant then, times that were given
    as "2h ago" included; `ends` the offsets that it does not read past, by topic and partition.
    """

    job: str
    action: str
    by: str
    time: str
    wanted: dict[str, Any]
    selection: Selection
    ends: dict[str, dict[int, int]]


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who moves the dead letters of a topic, since when (RFC 3339). `beat` grows while that job lives; an `ended` one
    claims nothing."""

    job: str
    by: str
    since: str
    beat: int
    ended: bool = False


class Closed(Protocol):
    """The dead letters that were replayed or discarded."""

    def holds(self, letter: DeadLetter) -> bool:
        """Whether it was replayed or discarded, and not reopened since."""
        ...


_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(State).decode
_decode_job = msgspec.json.Decoder(Job).decode
_decode_claim = msgspec.json.Decoder(Claim).decode


def state_record(place: Place, state: State) -> tuple[bytes, bytes]:
    """Key and value of a dead letter's state."""
    return str(place).encode(), _encode(state)


def job_record(job: Job) -> tuple[bytes, bytes]:
    """Key and value of a job."""
    return (JOB_PREFIX + job.job).encode(), _encode(job)


def claim_record(topic: str, claim: Claim) -> tuple[bytes, bytes]:
    """Key and value of a claim on a dead-letter topic."""
    return (CLAIM_PREFIX + topic).encode(), _encode(claim)


class Entry(NamedTuple):
    """One record of the state topic. A job has its name as `topic`, and neither it nor a claim has a place in it."""

    topic: str
    partition: int
    offset: int
    said: Any  # a State, a Job or a Claim


def read_entry(key: bytes | None, value: bytes | None) -> Entry | None:
    """A record of the state topic, None for one that is none of ours. Never raises."""
    if key is None or value is None:
        return None
    try:
        name, *place = key.decode().rsplit("/", 2)
        if len(place) == 2:
            entry = Entry(name, int(place[0]), int(place[1]), _decode_state(value))
            numbers = (entry.partition, entry.offset, entry.said.timestamp_ms)
            return entry if all(-1 <= number < 1 << 63 for number in numbers) else None
        if name + "/" == JOB_PREFIX:
            return Entry(place[0], -1, -1, _decode_job(value))
        if name + "/" == CLAIM_PREFIX:
            return Entry(place[0], -1, -1, _decode_claim(value))
    except (ValueError, IndexError, msgspec.MsgspecError, RecursionError):
        pass
    return None
