"""What a report costs a record, beside the encoding of the record's result, which the same thread does before it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from streamer.bench.harness.figures import Figure, Section, Target, interleaved, median_ratio
from streamer.core.measures import PROJECTION_BINS, PROJECTIONS, pack
from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, Headers, MicroBatch, Record, Segment, TextEvent
from streamer.core.report import Report, ReportBuilder
from streamer.core.results.encoder import Encoder, OutputLimits

TEXTS = ("What a fine day", "The delivery was late, and nobody answered", "Die Lieferung kam pünktlich", "Всё хорошо")
NOW_MS = 1_700_000_000_000
DIMENSIONS = 384
_CARD = ModelCard("bench", "0123456789ab", "text-classification", "float32", "torch")
_PROJECTED = bytes(number % PROJECTION_BINS for number in range(PROJECTIONS))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of answer; `answer` makes the one of a record."""

    name: str
    answer: Callable[[int], Answer]
    target: Target | None = None


def _vector(number: int) -> bytes:
    return msgspec.json.encode({"vector": [(number + place) % 97 / 97 for place in range(DIMENSIONS)]})


_VECTORS = [_vector(number) for number in range(32)]
KINDS = (
    Kind("builtin:null", lambda _: Answer(b"{}"), Target(at_most=0.4)),
    Kind(
        "classification",
        lambda number: Answer(
            b'{"label":"%b","score":0.8%03d}' % (b"positive" if number % 3 else b"negative", number % 1000),
            tokens=12,
            measures=pack(number % 4 == 0, number % 20, number % 19),
        ),
    ),
    Kind(
        f"vectors of {DIMENSIONS}",
        lambda number: Answer(_VECTORS[number % 32], tokens=12, measures=pack(1) + _PROJECTED),
    ),
)


class _Record:
    """Reads as fast as the client's own."""

    def __init__(self, offset: int) -> None:
        self.topic: Callable[[], str] = lambda: "reviews"
        self.partition: Callable[[], int] = lambda: 0
        self.offset: Callable[[], int] = lambda: offset
        self.key: Callable[[], bytes | None] = lambda: b"key"
        self.value: Callable[[], bytes | None] = lambda: b"{}"
        self.headers: Callable[[], Headers | None] = lambda: None
        self.timestamp: Callable[[], tuple[int, int]] = lambda: (1, NOW_MS + offset // 50)


def report_cost(records: int, rounds: int, progress: Callable[[str], None]) -> Section:
    """CPU time of both over the runs of one plan, in turn."""
    return Section(
        f"A report, beside the encoding of its {records:,} results in 4 runs",
        list(_figures(records, rounds, progress)),
        (f"ratio: median of {rounds} interleaved rounds of CPU time; the record of the report included",),
    )


def report_of(records: int) -> Report:
    """A report on so many results of a classifier."""
    report = ReportBuilder(pipeline="bench", task=_CARD.task, card=_CARD)
    report.add(_run(KINDS[1], records), NOW_MS)
    return report.build(NOW_MS)


def _figures(records: int, rounds: int, progress: Callable[[str], None]) -> Iterator[Figure]:
    for kind in KINDS:
        runs = [_run(kind, max(1, records // 4)) for _ in range(4)]
        programs = {kind.name: partial(_report, runs), f"{kind.name}: results": partial(_results, runs)}
        took = interleaved(rounds, programs, progress)
        ours, theirs = took.values()
        ratio, ratios = median_ratio(ours, theirs)
        columns = {
            "report µs/record": 1e6 * statistics.median(ours) / records,
            "results µs/record": 1e6 * statistics.median(theirs) / records,
        }
        yield Figure(kind.name, ratio, "× encoding results", kind.target, ratios, columns)


def _run(kind: Kind, records: int) -> Run:
    read: list[Record] = [_Record(offset) for offset in range(records)]
    segment = Segment("reviews", 0, 1, read)
    segment.events = [TextEvent(TEXTS[number % len(TEXTS)]) for number in range(records)]
    segment.outcomes = [kind.answer(number) for number in range(records)]
    return Run(MicroBatch(1, [segment], 1, 1, 0), segment, 0, records)


def _report(runs: Sequence[Run]) -> float:
    began = time.process_time()
    report = ReportBuilder(pipeline="bench", task=_CARD.task, card=_CARD)
    for run in runs:
        report.add(run, NOW_MS)
    report.build(NOW_MS).output("reports")
    return time.process_time() - began


def _results(runs: Sequence[Run]) -> float:
    began = time.process_time()
    encoder = Encoder(
        pipeline="bench",
        task=_CARD.task,
        card=_CARD,
        output_topic="out",
        dead_letter_topic="dlq",
        limits=OutputLimits(1 << 20, 1 << 20),
    )
    for run in runs:
        encoder.encode(run, NOW_MS)
    return time.process_time() - began
