"""From plans to output records, with the report of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamer.core.encoder import Encoder
from streamer.core.output import Output
from streamer.core.pipeline.protocol import Settle
from streamer.core.report import Report, ReportBuilder


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
        """The plan's records, run by run: what is handed over need not wait for all to be encoded."""
        report = self._new_report() if self._new_report is not None else None
        for run in plan.runs:
            yield self._encoder.encode(run, now_ms)
            if report is not None:
                report.add(run, now_ms)
        if report is not None:
            built = report.build(now_ms)
            if self._on_report is not None:
                self._on_report(plan.settle, built)
            if self._reports_topic:
                yield [built.output(self._reports_topic)]
