"""Snapshots of what came of feedback: when one is due, and which records of older ones are taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from streamer.core.health.feedback.memory import assembled, split
from streamer.core.health.words import FeedbackWord, PartWord
from streamer.health.feedback.labels import Labels

SAVE_EVERY_S: Final = 60.0
SAVE_BYTES_PER_S: Final = 16_000
"""A large snapshot is written less often: the topic must not grow faster than that."""
ABANDONED_MS: Final = 600_000
"""Parts of that age whose snapshot nothing names are of an app that is gone. Younger ones may be those that another app
is writing."""


class Memories:
    """Those of one app. Each has an id, and its parts keys of their own, so that apps which share a topic leave each
    other's alone. Whichever was written last is the one that the topic names.

    What that has replaced is taken back with the snapshot after: who is reading the topic finds the parts of both."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._save_at = 0.0
        self._ours: list[str] = []
        self._replaced: list[str] = []

    def restore(self, head: FeedbackWord | None, parts: Mapping[str, PartWord], now_ms: int) -> bool:
        """Go on from what stands on the topic, by key; False where there is none, or none that can be read."""
        for key, part in parts.items():
            if head is not None and part.snapshot == head.snapshot:
                self._ours.append(key)
            elif part.time_ms < now_ms - ABANDONED_MS:
                self._replaced.append(key)
        content = assembled(head, parts.values()) if head is not None else None
        return content is not None and self._labels.restore(content)

    def due(self, now_s: float, *, final: bool) -> bytes | None:
        """What to write now, None where it is not time."""
        if not self._labels.unsaved or (now_s < self._save_at and not final):
            return None
        return self._labels.memory()

    def parts(self, memory: bytes, now_s: float, now_ms: int) -> tuple[list[tuple[str, PartWord | None]], FeedbackWord]:
        """The parts to write, by key, and those to take back (None); and what to write when they are there."""
        parts, head = split(self._labels.topic, uuid4().hex, now_ms, memory)
        size = sum(len(part.content) for part in parts)
        self._save_at = now_s + max(SAVE_EVERY_S, size / SAVE_BYTES_PER_S)
        changes: list[tuple[str, PartWord | None]] = [(key, None) for key in self._replaced]
        changes += [(part.key, part) for part in parts]
        # Also where it can't be written: then it may be on the topic all the same, until another one replaces it.
        self._ours += [part.key for part in parts]
        return changes, head

    def written(self, head: FeedbackWord) -> None:
        """It stands on the topic."""
        own = {key for key in self._ours if key.startswith(f"{head.key}/{head.snapshot}/")}
        self._replaced = [key for key in self._ours if key not in own]
        self._ours = sorted(own)
