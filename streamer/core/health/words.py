"""What is said on the health topic: closed windows, the states of rules, drift by monitor, the baselines that drift is
judged against, and snapshots to start again from.

All of it is keyed, so that a compacted topic keeps the last word on each, and saying it twice changes nothing.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from streamer.core.foreign import read_own
from streamer.core.health.drift.baseline import Baseline
from streamer.core.health.drift.finding import Finding
from streamer.core.health.quality.calibration import Bin, Calibration
from streamer.core.health.quality.counts import Count

VERSION: Final = "streamer.health.v1"
MAX_SNAPSHOT_BYTES: Final = 900_000
"""As much as a record may hold with the brokers' own limit of 1 MiB."""

State = Literal["ok", "pending", "firing", "insufficient"]
Severity = Literal["page", "ticket"]


class WindowKey(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One window: a pipeline's results by one revision of its model, from `start_ms` on for `length_ms`."""

    pipeline: str
    revision: str
    start_ms: int
    length_ms: int

    @property
    def end_ms(self) -> int:
        """The first millisecond after it."""
        return self.start_ms + self.length_ms


class WindowWord(msgspec.Struct, kw_only=True, tag_field="kind", tag="window"):
    """A window that has ended. Said again with the same key when a report that came late has changed it."""

    version: str = VERSION
    pipeline: str
    revision: str
    start_ms: int
    length_ms: int
    window: Any

    @property
    def key(self) -> str:
        """The record's key."""
        return f"{self.pipeline}/window/{self.revision}/{self.length_ms}/{self.start_ms}"


class StateWord(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="state"):
    """How a rule stands for a pipeline since `since_ms`. `value` is what was measured over the last `over_s` seconds,
    absent where too little was; `what` is a sentence for people."""

    version: str
    pipeline: str
    rule: str
    metric: str
    state: State
    since_ms: int
    time_ms: int
    threshold: float
    severity: Severity
    what: str
    value: float | None = None
    records: int = 0

    @property
    def key(self) -> str:
        """The record's key."""
        return f"{self.pipeline}/{self.rule}"


class DriftWord(Finding, kw_only=True, tag_field="kind", tag="drift"):
    """What a monitor says of a revision of a pipeline's model, judged up to `time_ms`. `against` says what it was held
    against: the saved baseline, or the same hour of the days before (season)."""

    version: str = VERSION
    pipeline: str
    revision: str
    against: Literal["baseline", "season"]
    time_ms: int

    @property
    def key(self) -> str:
        """The record's key."""
        return f"{self.pipeline}/drift/{self.revision}/{self.monitor}"


class BaselineWord(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="baseline"):
    """The frozen baseline of a revision, of `records` results in windows of `length_ms`. `calibration` says how often
    answers of a given confidence were right, where somebody has measured it. `steady` is what somebody says of the
    traffic: that it is the same at all hours, so that less than a day tells what is usual."""

    version: str
    pipeline: str
    revision: str
    model: str
    saved_ms: int
    length_ms: int
    records: int
    baseline: Baseline
    calibration: Calibration | None = None
    steady: bool = False

    @property
    def key(self) -> str:
        """The record's key."""
        return f"{self.pipeline}/baseline/{self.revision}"


class QualityWord(msgspec.Struct, kw_only=True, tag_field="kind", tag="quality"):
    """What feedback says of the results of a window of events: `labels` were held to their results, `unjudged` could
    not be, and `coverage` is the share of all results that have any. Weighted numbers have no `interval`; of very many
    labels there is no matrix. Said again when feedback has changed it."""

    version: str = VERSION
    pipeline: str
    revision: str
    start_ms: int
    length_ms: int
    labels: int
    unjudged: int
    results: int
    coverage: float | None
    lag_p50_s: int | None
    lag_p90_s: int | None
    metrics: dict[str, float]
    accuracy_interval: tuple[float, float] | None
    confusion: dict[str, dict[str, Count]] | None
    reliability: list[Bin] | None

    @property
    def key(self) -> str:
        """The record's key."""
        return f"{self.pipeline}/quality/{self.revision}/{self.length_ms}/{self.start_ms}"


class FeedbackWord(msgspec.Struct, kw_only=True, tag_field="kind", tag="feedback"):
    """What came of the feedback topic `topic` up to `time_ms`, which is in so many parts of the snapshot with this id:
    it is written when those are there."""

    version: str = VERSION
    topic: str
    snapshot: str
    parts: int
    time_ms: int

    @property
    def key(self) -> str:
        """The record's key."""
        return f"feedback/{self.topic}"


class PartWord(msgspec.Struct, kw_only=True, tag_field="kind", tag="part"):
    """A part of what a `FeedbackWord` names, written at `time_ms`. It is taken back when another snapshot has replaced
    its own."""

    version: str = VERSION
    topic: str
    snapshot: str
    index: int
    time_ms: int
    content: bytes

    @property
    def key(self) -> str:
        """The record's key."""
        return f"feedback/{self.topic}/{self.snapshot}/{self.index}"


class SnapshotWord(msgspec.Struct, kw_only=True, tag_field="kind", tag="snapshot"):
    """The fold of the topic `reports`, which also knows up to where they were read: in one record, so that the two
    can't disagree. `pending` are windows that had changed and were not said yet. `feedback` says by partition up to
    where the dead letters of the feedback topic are written. `drift` is what the monitors have seen so far."""

    version: str = VERSION
    reports: str
    time_ms: int
    newest_ms: dict[str, int]
    pending: list[WindowKey]
    feedback: dict[str, int]
    fold: bytes
    drift: bytes = b""

    @property
    def key(self) -> str:
        """The record's key."""
        return f"snapshot/{self.reports}"


Word = WindowWord | StateWord | DriftWord | BaselineWord | QualityWord | FeedbackWord | PartWord | SnapshotWord

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Word).decode


def encode(word: Word) -> bytes:
    """A word as the value of a record."""
    return _encode(word)


def decode(value: bytes | None) -> Word | None:
    """The word in a record; None for anything else, and for words of a version that is not ours."""
    word = read_own(_decode, value)
    return word if word is not None and word.version == VERSION else None
