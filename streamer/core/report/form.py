"""The form of reports, as they stand in their topic and in schemas/report.json."""

from __future__ import annotations

from typing import Literal

import msgspec

from streamer.core.foreign import read_own
from streamer.core.headers import CONTENT_TYPE
from streamer.core.output import Output
from streamer.core.report.histogram import Histogram

VERSION = "streamer.report.v2"
VERSIONS = frozenset({"streamer.report.v1", VERSION})
"""Those that are read. Reports of version 1 lack what `Report` says."""
UNKNOWN = "unknown"
"""The revision of a model that could not be loaded."""


class Model(msgspec.Struct, frozen=True):
    """The model behind the answers; `revision` is the digest of its files."""

    name: str
    revision: str


class Origin(msgspec.Struct, frozen=True):
    """Who writes reports: the member by its slot, the version of streamer that it runs, and the digest of its
    pipeline's configuration, secrets left out."""

    member: str = ""
    streamer: str = ""
    config: str = ""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a member: `started` says which of its pipeline's settings differ from the defaults, by field as
    JSON, `ended` with which exit code and why."""

    what: Literal["started", "ended"]
    settings: dict[str, str] = {}
    exit_code: int = 0
    reason: str = ""


class Embedding(msgspec.Struct):
    """The vectors of a report. `count` of them, evenly spaced, are read number by number: `sum` is theirs (float32,
    little endian), and `norm` counts a thousand times the length of each. `projections` counts all that the workers
    measured, by projection and bin (`core.measures`); none where no worker measures any."""

    count: int
    sum: bytes
    norm: Histogram
    projections: list[list[int]] = []


class Generated(msgspec.Struct):
    """What was written: why it ended, for tasks that say so; tokens; and the share of repeated trigrams of tokens, in
    equal bins, of texts that the workers measured. All zeros where there is none."""

    finish_reasons: dict[str, int]
    output_tokens: Histogram
    repetition: list[int]


class Likelihood(msgspec.Struct):
    """How likely a language model held the texts: the sum in nats over `tokens` predicted tokens, and texts by
    nats a token (negative log-likelihood) in 20 equal bins of [0, 10]; more falls in the last."""

    log_likelihood: float
    tokens: int
    mean: list[int]


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one settle did, or, with an `event`, what became of a member: then nothing is counted. `ranges` are
    `[topic, partition, first offset, last offset]`, both included. Reports of older versions do not name their origin.

    What stands behind `event` is new in version 2. All of it sums over reports. `scripts` is of a sample of the texts,
    evenly spaced; its counts say how many.
    """

    version: str
    pipeline: str
    task: str
    model: Model
    time_ms: int
    ranges: list[tuple[str, int, int, int]]
    results: int
    dead_letters: dict[str, int]
    skipped: dict[str, int]
    cached: int
    truncated: int
    tokens: int
    latency_ms: Histogram
    text_chars: Histogram
    labels: dict[str, int] | None = None
    other_labels: int = 0
    confidence: list[int] | None = None
    member: str = ""
    streamer: str = ""
    config: str = ""
    event: Event | None = None
    margin: list[int] | None = None
    entropy: list[int] | None = None
    scripts: dict[str, int] | None = None
    empty: int = 0
    repeats: int = 0
    unknown_tokens: int = 0
    embedding: Embedding | None = None
    generation: Generated | None = None
    likelihood: Likelihood | None = None

    @property
    def records(self) -> int:
        """Records that got their outcome."""
        return self.results + sum(self.dead_letters.values()) + sum(self.skipped.values())

    def output(self, topic: str) -> Output:
        """The report as a record; the producer chooses the partition by the pipeline's name."""
        return topic, -1, self.pipeline.encode(), _encode(self), [(CONTENT_TYPE, b"application/json")]


def read(value: bytes | None) -> Report | None:
    """The report in a record; None for anything else, and for a report of a version that is not known."""
    report = read_own(_decode, value)
    return report if report is not None and report.version in VERSIONS else None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode
