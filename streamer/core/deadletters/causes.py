"""Why there are dead letters: grouped by code and by a fingerprint of the cause, counted, and spread over time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from streamer.core.deadletters.families import Reason
from streamer.core.deadletters.letter import DeadLetter, Place

BARS = "▁▂▃▄▅▆▇█"
_MAX_BINS = 512
_FIRST_WIDTH_MS = 1_000
_FINGERPRINT_CHARS = 8

# What differs between two occurrences of one cause: UUIDs and digests, then numbers.
_ID = re.compile(r"\b(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=[a-fA-F]*[0-9])[0-9a-fA-F]{8,})\b")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


def normalised(message: str) -> str:
    """A message with ids as ‹id› and numbers as ‹n›, in single spaces."""
    return " ".join(_NUMBER.sub("‹n›", _ID.sub("‹id›", message)).split())


def fingerprint(reason: Reason) -> str:
    """Eight hexadecimal digits that dead letters of the same cause share."""
    return _fingerprint(reason.code, reason.exception or "", reason.message or "")


@lru_cache(maxsize=4096)
def _fingerprint(code: str, exception: str, message: str) -> str:
    cause = "\0".join((code, exception, normalised(message)))
    return hashlib.sha256(cause.encode("utf-8", "surrogatepass")).hexdigest()[:_FINGERPRINT_CHARS]


class Timeline:
    """Counts over time in at most 512 bins: they double their width when they get too many."""

    def __init__(self) -> None:
        self._width_ms = _FIRST_WIDTH_MS
        self._bins: dict[int, int] = {}

    def add(self, time_ms: int) -> None:
        """Count one."""
        number = time_ms // self._width_ms
        self._bins[number] = self._bins.get(number, 0) + 1
        while len(self._bins) > _MAX_BINS:
            self._width_ms *= 2
            old, self._bins = self._bins, {}
            for each, count in old.items():
                self._bins[each // 2] = self._bins.get(each // 2, 0) + count

    def counts(self, first_ms: int, last_ms: int, parts: int) -> list[int]:
        """Counts in so many equal parts of the time from `first_ms` to `last_ms`; a bin counts where it begins."""
        span_ms = max(last_ms - first_ms + 1, 1)
        counts = [0] * parts
        for number, count in self._bins.items():
            part = (number * self._width_ms - first_ms) * parts // span_ms
            counts[min(max(part, 0), parts - 1)] += count
        return counts


@dataclass(slots=True)
class Cause:
    """The dead letters of one cause; the times are -1 where no record says any. `example` is the newest one."""

    fingerprint: str
    code: str
    exception: str
    message: str
    example: Place
    count: int = 0
    first_ms: int = -1
    last_ms: int = -1
    pipelines: set[str] = field(default_factory=set)
    timeline: Timeline = field(default_factory=Timeline)

    def add(self, letter: DeadLetter) -> None:
        """Count a dead letter."""
        self.count += 1
        if letter.reason.pipeline:
            self.pipelines.add(letter.reason.pipeline)
        time_ms = letter.timestamp_ms
        if time_ms < 0:
            return
        self.timeline.add(time_ms)
        if self.first_ms < 0 or time_ms < self.first_ms:
            self.first_ms = time_ms
        if time_ms >= self.last_ms:
            self.last_ms = time_ms
            self.example = letter.place


class Causes:
    """Groups dead letters as they come; memory grows with the causes alone."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str], Cause] = {}

    def add(self, letter: DeadLetter) -> None:
        """Count a dead letter."""
        reason = letter.reason
        name = fingerprint(reason)
        cause = self._causes.get((reason.code, name))
        if cause is None:
            message = normalised(reason.message or "")
            cause = Cause(name, reason.code, reason.exception or "", message, letter.place)
            self._causes[reason.code, name] = cause
        cause.add(letter)

    def by_count(self) -> list[Cause]:
        """All causes, the most frequent first."""
        return sorted(self._causes.values(), key=lambda cause: (-cause.count, cause.code, cause.fingerprint))


def sparkline(counts: Sequence[int]) -> str:
    """Counts as bars of eighths of the highest; nothing is a space."""
    most = max(counts, default=0)
    return "".join(BARS[(count * len(BARS) - 1) // most] if count else " " for count in counts)
