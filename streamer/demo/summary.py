"""What the demo found, as values: figures, and the problems that decide its exit code."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.demo.health import Health


class Latency(msgspec.Struct, frozen=True):
    """From a record's timestamp until a subscriber had its outcome, in ms, over `records` of live traffic."""

    records: int
    per_s: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Throughput(msgspec.Struct, frozen=True):
    """Records a second from when `records` were sent at once until a subscriber had the last of their outcomes."""

    records: int
    per_s: float


class Repeats(msgspec.Struct, frozen=True):
    """Events whose text came before: answered by the cache, or together with the first while that was computed.

    `different` counts those whose answer is not byte for byte the first's: such a text was computed twice.
    """

    events: int
    cached: int
    together: int
    different: int


class Sizes(msgspec.Struct, frozen=True):
    """How many of something there were, and how many records it held."""

    count: int
    median: int
    largest: int


class Accuracy(msgspec.Struct, frozen=True):
    """The share of events whose label is the sign of a human score that is at least `score` either way."""

    score: float
    events: int
    share: float


class Example(msgspec.Struct, frozen=True):
    """An event's text and what the model says of it."""

    text: str
    output: dict[str, Any]


class Spans(msgspec.Struct, frozen=True):
    """Spans that were read from `topic`: one for each micro-batch, and one for each record that came with a sampled
    trace."""

    topic: str
    micro_batches: int
    records: int


class PipelineSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One pipeline. `lost`, `duplicate` and `foreign` count inputs without outcome, with several, and outcomes of
    inputs that there are not; `micro_batches` is None where no spans were written."""

    task: str
    model: str
    revision: str
    results: int
    dead_letters: dict[str, int]
    skipped: dict[str, int]
    lost: int
    duplicate: int
    foreign: int
    repeats: Repeats
    latency: Latency
    throughput: Throughput
    micro_batches: Sizes | None
    settles: Sizes
    example: Example
    accuracy: Accuracy | None = None
    health: Health | None = None


class PoisonSummary(msgspec.Struct, frozen=True):
    """A poison record: the code it must get, and what it got in each pipeline."""

    name: str
    why: str
    expected: str
    got: dict[str, str]

    @property
    def as_expected(self) -> bool:
        """Whether every pipeline judged as it should."""
        return all(got == self.expected for got in self.got.values())


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole demo; `problems` is empty when all checks hold. `load` is the machine's over the last minute, the
    demo's own included. `capacity_per_s` is how many records a second both pipelines together answered while no more
    were under way than in live traffic, which came at half of that. `spans` is None where none were written."""

    ok: bool
    problems: list[str]
    events: int
    poison: list[PoisonSummary]
    pipelines: dict[str, PipelineSummary]
    capacity_per_s: float
    spans: Spans | None
    seconds: dict[str, float]
    cores: int
    load: float
