"""Reports: what one settle did, folded from its runs, so that nobody needs to read every result to know.

Histograms are sparse lists of `[upper bound, count]` over `BOUNDS`: a value counts at the first bound that is not
below it, one beyond the last bound at the last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from streamer.core.headers import CONTENT_TYPE
from streamer.core.output import Output
from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, Outcome
from streamer.core.timestamps import written_ms
from streamer.errors import DataFailure

VERSION = "streamer.report.v1"
MAX_LABELS = 50
MAX_LABEL_CHARS = 256
CONFIDENCE_BINS = 20

# Ten a decade (the Renard series R10), whole numbers, from 1 to 10^8: 28 hours in ms, 100 million characters.
BOUNDS: tuple[int, ...] = tuple(sorted({round(10 ** (step / 10)) for step in range(81)}))

_LABEL_PREFIX = b'{"label":'


UNKNOWN = "unknown"
"""The revision of a model that could not be loaded."""


class Model(msgspec.Struct, frozen=True):
    """The model behind the answers; `revision` is the digest of its files."""

    name: str
    revision: str


class Histogram(msgspec.Struct):
    """Counts by upper bound, with the exact sum and largest value."""

    counts: list[tuple[int, int]]
    sum: int
    max: int


def percentile(counts: Mapping[int, int], share: float, largest: int) -> int | None:
    """The upper bound of the bin in which this share of all values is reached, at most the largest value; None for no
    values."""
    needed = share * sum(counts.values())
    reached = 0
    for bound in sorted(counts):
        reached += counts[bound]
        if reached >= needed:
            return min(bound, largest)
    return None


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


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one settle did, or, with an `event`, what became of a member: then nothing is counted. `ranges` are
    `[topic, partition, first offset, last offset]`, both included. Reports of older versions do not name their origin.
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

    def output(self, topic: str) -> Output:
        """The report as a record; the producer chooses the partition by the pipeline's name."""
        return topic, -1, self.pipeline.encode(), _encode(self), [(CONTENT_TYPE, b"application/json")]


_encode = msgspec.json.Encoder().encode


def event_report(*, pipeline: str, task: str, card: ModelCard, origin: Origin, event: Event, time_ms: int) -> Report:
    """The report that a member started or ended."""
    report = ReportBuilder(pipeline=pipeline, task=task, card=card, origin=origin).build(time_ms)
    report.event = event
    return report


class _Classified(msgspec.Struct, gc=False):
    label: str
    score: float = -1.0


_decode_classified = msgspec.json.Decoder(_Classified).decode


class _Tally:
    """Counts of whole numbers that become a histogram."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, values: Iterable[int]) -> None:
        self._counts.update(values)

    def add_counts(self, counts: dict[int, int]) -> None:
        self._counts.update(counts)

    def histogram(self) -> Histogram:
        binned: Counter[int] = Counter()
        total = 0
        last = len(BOUNDS) - 1
        for value, count in self._counts.items():
            binned[BOUNDS[min(bisect_left(BOUNDS, value), last)]] += count
            total += value * count
        return Histogram(sorted(binned.items()), total, max(self._counts, default=0))


class ReportBuilder:
    """Folds the runs of one settle; make a new one for the next."""

    def __init__(self, *, pipeline: str, task: str, card: ModelCard, origin: Origin = Origin()) -> None:
        self._origin = origin
        self._pipeline = pipeline
        self._task = task
        self._model = Model(card.name, card.revision)
        self._ranges: dict[tuple[str, int], tuple[int, int]] = {}
        self._results = self._cached = self._truncated = self._tokens = 0
        self._dead_letters: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._latency_ms = _Tally()
        self._text_chars = _Tally()
        self._labels: Counter[str] = Counter()
        self._confidence: Counter[int] = Counter()

    def add(self, run: Run, now_ms: int) -> None:
        """Count a run's records, whose outcomes are final; `now_ms` is when they are settled."""
        segment = run.segment
        records = segment.records[run.first : run.last]
        outcomes = segment.outcomes[run.first : run.last]
        if not records:
            return
        place = (segment.topic, segment.partition)
        first, last = records[0].offset(), records[-1].offset()
        known = self._ranges.get(place)
        self._ranges[place] = (min(first, known[0]), max(last, known[1])) if known else (first, last)
        answers = [outcome for outcome in outcomes if type(outcome) is Answer]
        if len(answers) != len(outcomes):
            self._count_others(outcomes)
        self._results += len(answers)
        if unusual := [answer for answer in answers if answer.cached or answer.truncated]:
            self._cached += sum([answer.cached for answer in unusual])
            self._truncated += sum([answer.truncated for answer in unusual])
        self._tokens += sum([answer.tokens for answer in answers])
        latencies: Counter[int] = Counter()
        # Few milliseconds differ in a run, so that counting first leaves little to do in Python.
        for timestamp, count in Counter([record.timestamp() for record in records]).items():
            if (then_ms := written_ms(timestamp)) is not None:
                latencies[max(now_ms - then_ms, 0)] += count
        self._latency_ms.add_counts(latencies)
        events = segment.events[run.first : run.last]
        self._text_chars.add([len(event.text) for event in events if event is not None])
        self._count_labels(answers)

    def _count_others(self, outcomes: list[Outcome | None]) -> None:
        for outcome in outcomes:
            if type(outcome) is DataFailure:
                self._dead_letters[outcome.code.value] += 1
            elif outcome is not None and type(outcome) is not Answer:
                self._skipped[outcome.reason] += 1  # type: ignore[union-attr]

    def _count_labels(self, answers: list[Answer]) -> None:
        """A model's outputs have one form: the first one tells whether they name a label."""
        if not answers or not answers[0].output.startswith(_LABEL_PREFIX):
            return
        try:
            found = [_decode_classified(answer.output) for answer in answers]
        except msgspec.MsgspecError:  # a model of somebody's own, whose outputs mean something else
            return
        self._labels.update([each.label for each in found])
        self._confidence.update([int(each.score * CONFIDENCE_BINS) for each in found if 0.0 <= each.score <= 1.0])

    def build(self, time_ms: int) -> Report:
        """The report of all runs added."""
        ranked = sorted(self._labels.items(), key=lambda item: (-item[1], item[0]))
        report = Report(
            version=VERSION,
            pipeline=self._pipeline,
            task=self._task,
            model=self._model,
            time_ms=time_ms,
            ranges=[(*place, *offsets) for place, offsets in self._ranges.items()],
            results=self._results,
            dead_letters=dict(self._dead_letters),
            skipped=dict(self._skipped),
            cached=self._cached,
            truncated=self._truncated,
            tokens=self._tokens,
            latency_ms=self._latency_ms.histogram(),
            text_chars=self._text_chars.histogram(),
            member=self._origin.member,
            streamer=self._origin.streamer,
            config=self._origin.config,
        )
        if ranked:
            labels: Counter[str] = Counter()
            for label, count in ranked[:MAX_LABELS]:
                labels[label[:MAX_LABEL_CHARS]] += count
            report.labels = dict(labels)
            report.other_labels = sum(count for _, count in ranked[MAX_LABELS:])
            report.confidence = self._confidence_bins()
        return report

    def _confidence_bins(self) -> list[int]:
        """Counts of scores in 20 equal bins of [0, 1]; 1.0 falls in the last, scores outside count nowhere."""
        bins = [self._confidence[number] for number in range(CONFIDENCE_BINS)]
        bins[-1] += self._confidence[CONFIDENCE_BINS]
        return bins
