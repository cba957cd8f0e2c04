"""What changed in the life of pipelines, from their reports: models, configurations, versions, members, logs that were
read again. Reports from before a time are read for the state at that time, and are not shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from streamer.core.record import TopicPartition
from streamer.core.report import UNKNOWN, Event, Report
from streamer.errors import ExitCode

SHORT_DIGEST = 12


class Kind(StrEnum):
    """What a change is of."""

    MODEL = "model"
    CONFIGURATION = "configuration"
    VERSION = "version"
    MEMBER = "member"
    HALT = "halt"
    TOPIC = "topic"


class Change(msgspec.Struct, frozen=True):
    """One change: from what (`before`, "" where nothing was known) to what."""

    time_ms: int
    pipeline: str
    kind: Kind
    subject: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.before} → {self.after}" if self.before else f"{self.subject}: {self.after}"


@dataclass(slots=True)
class _Fact:
    """A value of a pipeline's that its members may have at different times: a change is told once, when the first
    member has it. One that goes on with the old value while others are replaced changes nothing."""

    latest: str = ""
    by_member: dict[str, str] = field(default_factory=dict)

    def takes(self, member: str, value: str) -> str | None:
        """The value before, where this one is news."""
        if not value or self.by_member.get(member) == value:
            return None
        self.by_member[member] = value
        before, self.latest = self.latest, value
        return before if before != value else None


@dataclass(slots=True)
class _Pipeline:
    model: _Fact = field(default_factory=_Fact)
    config: _Fact = field(default_factory=_Fact)
    version: _Fact = field(default_factory=_Fact)
    settings: dict[str, str] | None = None
    vague: int | None = None
    """The place of the last change of the configuration, until a start tells what differs."""
    alive: dict[str, int | None] = field(default_factory=dict)
    """The time of the first report of each member that is not known to have ended; None of those that ended."""
    reached: dict[TopicPartition, int] = field(default_factory=dict)
    lowest: dict[TopicPartition, int] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    """What nobody has settled anything of since a time without a member, when offsets can be set by hand."""

    def end(self, member: str) -> None:
        """A member is no more."""
        self.alive[member] = None
        if not any(self.alive.values()):
            self.paused = set(self.reached)


class Changes:
    """Takes reports in the order of their time; `found` are the changes since `since_ms`."""

    def __init__(self, since_ms: int) -> None:
        self.found: list[Change] = []
        self._since_ms = since_ms
        self._pipelines: dict[str, _Pipeline] = {}

    def add(self, said: Report) -> None:
        """Take a report in."""
        known = self._pipelines.setdefault(said.pipeline, _Pipeline())
        model = f"{said.model.name}@{said.model.revision[:SHORT_DIGEST]}"
        self._fact(said, Kind.MODEL, known.model, model if said.model.revision != UNKNOWN else "")
        self._fact(said, Kind.VERSION, known.version, said.streamer and f"streamer {said.streamer}")
        self._config(said, known)
        self._ranges(said, known)
        if said.event is not None:
            self._event(said, said.event, known)
        elif said.member:
            known.alive.setdefault(said.member, said.time_ms)

    def _fact(self, said: Report, kind: Kind, fact: _Fact, value: str) -> None:
        before = fact.takes(said.member, value)
        if before:
            self._tell(said, kind, kind.value, before, value)

    def _config(self, said: Report, known: _Pipeline) -> None:
        settings = said.event.settings if said.event is not None and said.event.what == "started" else None
        before = known.config.takes(said.member, said.config)
        if before:
            known.vague = len(self.found)
            self._tell(said, Kind.CONFIGURATION, "configuration", before, said.config)
        if settings is None:
            return
        # A member's first settle may be heard of before its start, which another producer writes.
        differ = _differences(known.settings, settings)
        place, known.vague, known.settings = known.vague, None, settings
        if differ and place is not None and place < len(self.found):
            told = self.found[place]
            time_ms = min(told.time_ms, said.time_ms)
            self.found[place] = msgspec.structs.replace(told, time_ms=time_ms, after=f"{told.after} ({differ})")

    def _ranges(self, said: Report, known: _Pipeline) -> None:
        repeats = "at_least_once" in (known.settings or {}).get("guarantee", "")
        for topic, partition, first, last in said.ranges:
            place = topic, partition
            reached = known.reached.get(place, 0)
            if first < (known.lowest.get(place, 0) if repeats else reached):
                self._tell(
                    said,
                    Kind.TOPIC,
                    f"{topic}/{partition}",
                    f"read up to {reached:,}",
                    f"read again from {first:,}: the topic was recreated, or the group's offset was reset",
                )
            elif place in known.paused and first > reached + 1:  # a transaction's marker is no record
                self._tell(
                    said,
                    Kind.TOPIC,
                    f"{topic}/{partition}",
                    f"read up to {reached:,}",
                    f"goes on from {first:,}: the {first - reached:,} offsets between hold no record any more, or the"
                    " group's offset was set ahead",
                )
            known.paused.discard(place)
            known.reached[place] = last + 1
            known.lowest[place] = min(first, known.lowest.get(place, first))

    def _event(self, said: Report, event: Event, known: _Pipeline) -> None:
        name = f"member {said.member}"
        if event.what == "started":
            first_ms = known.alive.get(said.member)
            # Its own first settle may be heard of before this, which another producer writes: that is no former life.
            lost = first_ms is not None and first_ms < said.time_ms
            if lost:
                known.end(said.member)
            known.alive[said.member] = said.time_ms
            what = f"started with {said.model.name}@{said.model.revision[:SHORT_DIGEST]}"
            self._tell(said, Kind.MEMBER, name, "ended without a word (killed?)" if lost else "", what)
            return
        known.end(said.member)
        halted = event.exit_code == ExitCode.HALTED
        why = f": {event.reason}" if event.reason else ""
        after = f"{'halted' if halted else f'ended with exit code {event.exit_code}'}{why}"
        self._tell(said, Kind.HALT if halted else Kind.MEMBER, name, "", after)

    def _tell(self, said: Report, kind: Kind, subject: str, before: str, after: str) -> None:
        if said.time_ms >= self._since_ms:
            self.found.append(Change(said.time_ms, said.pipeline, kind, subject, before, after))


def _differences(before: dict[str, str] | None, after: dict[str, str] | None) -> str:
    if before is None or after is None:
        return ""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name} {before.get(name, 'default')} → {after.get(name, 'default')}" for name in names)
