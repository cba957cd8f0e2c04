"""What the app wrote to its topic before this start."""

from __future__ import annotations

from typing import NamedTuple

from streamer.core.health.words import FeedbackWord, PartWord, SnapshotWord, StateWord
from streamer.health.drift import Drift


class Known(NamedTuple):
    """The newest snapshot of the reports; the last word on each rule, by its key; and what came of the feedback: the
    word that names its snapshot, and the parts of all snapshots by their keys."""

    snapshot: SnapshotWord | None
    states: dict[str, StateWord]
    feedback: FeedbackWord | None
    parts: dict[str, PartWord]


def known(drift: Drift, reports: str, feedback: str, now_ms: int) -> Known:
    """Read the topic, for an app that watches these reports and this feedback; `drift` takes what is its own. Blocks.
    Raises StreamerError."""
    snapshot: SnapshotWord | None = None
    states: dict[str, StateWord] = {}
    head: FeedbackWord | None = None
    parts: dict[str, PartWord] = {}
    for key, word in drift.words():
        match word:
            case SnapshotWord():
                snapshot = word if word.reports == reports else snapshot
            case StateWord():
                states[key] = word
            case FeedbackWord():
                head = word if word.topic == feedback else head
            case PartWord():
                parts |= {key: word} if word.topic == feedback else {}
            case _:
                if word is None:
                    parts.pop(key, None)
                drift.take(key, word, now_ms)
    return Known(snapshot, states, head, parts)
