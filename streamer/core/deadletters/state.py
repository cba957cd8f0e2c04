"""What became of dead letters: the records of the compacted topic `streamer.dlq.state`, and what they add up to.

Key `{topic}/{partition}/{offset}` of the dead letter; key `job/{name}` for what a job set out to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.selection import Selection
from streamer.core.record import Record

STATE_TOPIC = "streamer.dlq.state"
JOB_PREFIX = "job/"
JOB_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


class State(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one dead letter. `timestamp_ms` is the dead letter's own: where a topic was deleted and made anew,
    another one may lie at its place."""

    state: Literal["replayed", "discarded"]
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


_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(State).decode
_decode_job = msgspec.json.Decoder(Job).decode


def state_record(place: Place, state: State) -> tuple[bytes, bytes]:
    """Key and value of a dead letter's state."""
    return str(place).encode(), _encode(state)


def job_record(job: Job) -> tuple[bytes, bytes]:
    """Key and value of a job."""
    return (JOB_PREFIX + job.job).encode(), _encode(job)


class Closed:
    """The dead letters that were replayed or discarded, and the jobs that did it."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._states: dict[tuple[str, int], dict[int, State]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Take in records of the state topic; what is none of ours is left out."""
        for record in records:
            key, value = record.key(), record.value()
            if key is None or value is None:
                continue
            try:
                name, *place = key.decode().rsplit("/", 2)
                if len(place) == 1:
                    job = _decode_job(value)
                    self.jobs[job.job] = job
                else:
                    partition, offset = map(int, place)
                    self._states.setdefault((name, partition), {})[offset] = _decode_state(value)
            except (ValueError, msgspec.MsgspecError):
                continue

    def find(self, letter: DeadLetter) -> State | None:
        """What became of a dead letter, None while it is open."""
        record = letter.record
        states = self._states.get((record.topic(), record.partition()))
        state = states.get(record.offset()) if states else None
        return state if state is not None and state.timestamp_ms == letter.timestamp_ms else None

    def holds(self, letter: DeadLetter) -> bool:
        """Whether it was replayed or discarded."""
        return self.find(letter) is not None

    def count(self, job: str) -> int:
        """How many dead letters this job has closed."""
        return sum(state.job == job for states in self._states.values() for state in states.values())
