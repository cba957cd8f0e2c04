"""Partitions that stand: there are records, and they are not being answered. Each with why, and how to fix it.

Whoever knows of one (the source, the sink, the core) names all that it knows of each time it is asked; nothing is
remembered but since when one stands and when it was last logged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from streamer.core.record import TopicPartition

LOG_EVERY_S: Final = 60.0


class Reason(StrEnum):
    """Why a partition stands: the values of the label `reason` of `streamer_stuck_partitions`."""

    OPEN_TRANSACTION = "open_transaction"  # a producer left one open on the input
    UNREADABLE = "unreadable"  # a batch on the broker is damaged, or more than the client unpacks
    OFFSET_BEYOND_END = "offset_beyond_end"  # the committed offset lies behind the log's end
    INPUT_MISSING = "input_missing"  # the input topic is gone, or was recreated
    HELD = "held"  # its records ended `crash_limit` processes
    OUTPUT_MISSING = "output_missing"  # an output topic, or a partition of it, is not there
    OUTPUT_REFUSED = "output_refused"  # the brokers do not take what is written
    OUTPUT_SLOW = "output_slow"  # they take it too slowly
    GROUP = "group"  # the group does not let us in
    LOGIN = "login"  # there is no token to log in with
    SCHEMA_REGISTRY = "schema_registry"  # the registry does not give the schema of its next record
    MODEL = "model"  # no worker answers
    UNKNOWN = "unknown"  # nothing of the above, and all the same there is no answer


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition that stands at `offset` (-1: not known). `what` and `fix` are sentences without a full stop, and
    never quote a record."""

    partition: TopicPartition
    offset: int
    reason: Reason
    what: str
    fix: str

    def __str__(self) -> str:
        topic, number = self.partition
        where = f"{topic}/{number}" if number >= 0 else topic
        at = f" at offset {self.offset}" if self.offset >= 0 else ""
        return f"{where} is stuck{at} ({self.reason}): {self.what}; {self.fix}"


@dataclass(slots=True)
class Standings:
    """What stands now, and since when, in seconds of a monotonic clock. `current` may be read from any thread."""

    current: tuple[Standing, ...] = ()
    since: dict[tuple[TopicPartition, Reason], float] = field(default_factory=dict)
    _logged: dict[tuple[TopicPartition, Reason], float] = field(default_factory=dict)

    def look(self, found: Iterable[Standing], now: float) -> list[Standing]:
        """Take in all that stands; returns what is to be logged: at once, and again every `LOG_EVERY_S`."""
        latest = {(one.partition, one.reason): one for one in found}
        self.since = {key: self.since.get(key, now) for key in latest}
        self._logged = {key: at for key, at in self._logged.items() if key in latest}
        due = [one for key, one in latest.items() if now - self._logged.get(key, float("-inf")) >= LOG_EVERY_S]
        self._logged |= {(one.partition, one.reason): now for one in due}
        self.current = tuple(sorted(latest.values(), key=lambda one: (one.partition, one.reason)))
        return due

    def counts(self) -> dict[Reason, int]:
        """How many partitions stand, by every reason there is."""
        return {reason: sum(one.reason is reason for one in self.current) for reason in Reason}
