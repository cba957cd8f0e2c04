"""From the runs of one settle to its report.

A report is a function of the runs in its plan: one that is rolled back and made again is counted once, in the report
that becomes durable with it. So whatever is counted must hang on the record or on its answer.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from streamer.core.measures import AnswerMeasures
from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, Outcome
from streamer.core.report.form import VERSION, Event, Model, Origin, Report
from streamer.core.report.histogram import IntegerCounts
from streamer.core.report.outputs import Outputs
from streamer.core.report.scripts import main_script
from streamer.core.timestamps import written_ms
from streamer.errors import DataFailure

TEXTS_LOOKED_AT: Final = 64
"""Texts of a report whose script is looked at, which takes 1 to 5 µs each."""


def event_report(*, pipeline: str, task: str, card: ModelCard, origin: Origin, event: Event, time_ms: int) -> Report:
    """The report that a member started or ended."""
    report = ReportBuilder(pipeline=pipeline, task=task, card=card, origin=origin).build(time_ms)
    report.event = event
    return report


class ReportBuilder:
    """Folds the runs of one settle; make a new one for the next."""

    def __init__(self, *, pipeline: str, task: str, card: ModelCard, origin: Origin = Origin()) -> None:
        self._origin = origin
        self._pipeline = pipeline
        self._task = task
        self._model = Model(card.name, card.revision)
        self._ranges: dict[tuple[str, int], tuple[int, int]] = {}
        self._results = self._cached = self._truncated = self._tokens = self._repeats = self._empty = 0
        self._dead_letters: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._latency_ms = IntegerCounts()
        self._text_chars = IntegerCounts()
        self._texts: list[str] = []
        self._measures = AnswerMeasures()
        self._outputs = Outputs()

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
        if answers:
            self._count_answers(answers)
        latencies: Counter[int] = Counter()
        # Few milliseconds differ in a run, so that counting first leaves little to do in Python.
        for timestamp, count in Counter([record.timestamp() for record in records]).items():
            if (then_ms := written_ms(timestamp)) is not None:
                latencies[max(now_ms - then_ms, 0)] += count
        self._latency_ms.add_counts(latencies)
        texts = [event.text for event in segment.events[run.first : run.last] if event is not None]
        self._text_chars.add(map(len, texts))
        self._empty += len([text for text in texts if text.isspace()])
        self._texts += texts

    def _count_answers(self, answers: list[Answer]) -> None:
        self._results += len(answers)
        if unusual := [answer for answer in answers if answer.cached or answer.truncated or answer.repeated]:
            self._cached += sum([answer.cached for answer in unusual])
            self._truncated += sum([answer.truncated for answer in unusual])
            self._repeats += sum([answer.cached or answer.repeated for answer in unusual])
        self._tokens += sum([answer.tokens for answer in answers])
        if measured := [answer.measures for answer in answers if answer.measures]:
            self._measures.add(measured)
        self._outputs.add([answer.output for answer in answers])

    def _count_others(self, outcomes: list[Outcome | None]) -> None:
        for outcome in outcomes:
            if type(outcome) is DataFailure:
                self._dead_letters[outcome.code.value] += 1
            elif outcome is not None and type(outcome) is not Answer:
                self._skipped[outcome.reason] += 1  # type: ignore[union-attr]

    def build(self, time_ms: int) -> Report:
        """The report of all runs added."""
        margin, entropy, repetition = self._measures.shares()
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
            margin=margin,
            entropy=entropy,
            scripts=self._scripts(),
            empty=self._empty,
            repeats=self._repeats,
            unknown_tokens=self._measures.unknown_tokens(),
            embedding=self._outputs.embedding(self._measures.projections()),
            generation=self._outputs.generation(repetition),
            likelihood=self._outputs.likelihood(),
        )
        if (labels := self._outputs.labels()) is not None:
            report.labels, report.other_labels = labels
            report.confidence = self._outputs.confidence()
        return report

    def _scripts(self) -> dict[str, int] | None:
        stride = max(1, -(-len(self._texts) // TEXTS_LOOKED_AT))
        return dict(Counter(map(main_script, self._texts[::stride]))) or None
