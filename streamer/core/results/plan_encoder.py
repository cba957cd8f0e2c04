"""From plans to output records, with the report of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamer.core.output import Output
from streamer.core.pipeline.protocol import Run, Settle
from streamer.core.report import Report, ReportBuilder
from streamer.core.results.encoder import Encoder

PIECE_RECORDS = 256
PIECE_BYTES = 4_000_000
"""What is encoded before it is handed over: with large answers a whole run would take memory once more."""
CONVICTED_MOST = 50


class TakenBackError(Exception):
    """So many answers of one plan turned out to have no place that the breaker is to judge it once more."""


class PlanEncoder:
    """Encodes the plans of one pipeline, served by one model.

    `new_report` makes the report's builder for a plan, None wants no reports; a report goes to `reports_topic`, where
    that is not empty, as the last record of its plan, and to `on_report`, where given, with the plan's number.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        new_report: Callable[[], ReportBuilder] | None = None,
        reports_topic: str = "",
        on_report: Callable[[int, Report], None] | None = None,
    ) -> None:
        self._encoder = encoder
        self._new_report = new_report
        self._reports_topic = reports_topic
        self._on_report = on_report

    def encode(self, plan: Settle, now_ms: int) -> Iterator[list[Output]]:
        """The plan's records, piece by piece: what is handed over need not wait for all to be encoded. Raises
        TakenBackError."""
        report = self._new_report() if self._new_report is not None else None
        before = self._encoder.convicted
        for run in plan.runs:
            each_bytes = run.segment.size_bytes // len(run.segment.records)
            step = min(PIECE_RECORDS, PIECE_BYTES // (each_bytes + 1) + 1)
            for first in range(run.first, run.last, step):
                piece = Run(run.batch, run.segment, first, min(first + step, run.last))
                outputs = self._encoder.encode(piece, now_ms)
                if self._encoder.convicted - before > CONVICTED_MOST:
                    raise TakenBackError
                yield outputs
            if report is not None:
                report.add(run, now_ms)
        if report is not None:
            built = report.build(now_ms)
            if self._on_report is not None:
                self._on_report(plan.settle, built)
            if self._reports_topic:
                yield [built.output(self._reports_topic)]
