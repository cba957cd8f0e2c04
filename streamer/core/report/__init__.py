"""Reports: what one settle did, folded from its runs, so that nobody needs to read every result to know."""

from streamer.core.report.builder import ReportBuilder, event_report
from streamer.core.report.form import (
    UNKNOWN,
    VERSION,
    Embedding,
    Event,
    Generated,
    Likelihood,
    Model,
    Origin,
    Report,
    read,
)
from streamer.core.report.histogram import BOUNDS, Histogram, percentile
from streamer.core.report.outputs import CONFIDENCE_BINS, MAX_LABELS

__all__ = [
    "BOUNDS",
    "CONFIDENCE_BINS",
    "MAX_LABELS",
    "UNKNOWN",
    "VERSION",
    "Embedding",
    "Event",
    "Generated",
    "Histogram",
    "Likelihood",
    "Model",
    "Origin",
    "Report",
    "ReportBuilder",
    "event_report",
    "percentile",
    "read",
]
