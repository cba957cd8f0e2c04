"""Whether a model that says 0.9 is right nine times out of ten."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamer.core.health.quality.counts import Count, ratio
from streamer.core.measures import share_bin
from streamer.core.report import CONFIDENCE_BINS


class Bin(msgspec.Struct, frozen=True):
    """One row of the reliability table: answers whose confidence is between `low` and `high`, their mean confidence,
    and the share of them that is right."""

    low: float
    high: float
    count: Count
    confidence: float
    accuracy: float


class Calibration(msgspec.Struct):
    """Sums over 20 equal bins of the confidence; the bins are those of reports: the lower edge belongs to a bin, and
    1.0 to the last one. `outside` counts scores that are no probability and stand in no bin."""

    counts: list[Count] = msgspec.field(default_factory=lambda: [0] * CONFIDENCE_BINS)
    right: list[Count] = msgspec.field(default_factory=lambda: [0] * CONFIDENCE_BINS)
    confidence: list[float] = msgspec.field(default_factory=lambda: [0.0] * CONFIDENCE_BINS)
    squares: float = 0.0
    outside: Count = 0

    def add(self, confidence: float, right: bool, weight: Count = 1) -> None:
        """Count an answer `weight` times."""
        if not 0.0 <= confidence <= 1.0:
            self.outside += weight
            return
        place = share_bin(confidence)
        self.counts[place] += weight
        self.right[place] += weight * right
        self.confidence[place] += weight * confidence
        self.squares += weight * (confidence - right) ** 2

    @property
    def total(self) -> Count:
        """How many answers stand in bins."""
        return sum(self.counts)

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy, each bin weighted by its count."""
        gaps = (abs(confidence - right) for confidence, right in zip(self.confidence, self.right, strict=True))
        return ratio(sum(gaps), self.total)

    @property
    def overconfidence(self) -> float:
        """Mean confidence less accuracy: above 0 the model promises more than it keeps."""
        return ratio(sum(self.confidence) - sum(self.right), self.total)

    @property
    def brier(self) -> float:
        """The mean square of the distance between confidence and being right (1) or wrong (0)."""
        return ratio(self.squares, self.total)

    def table(self) -> list[Bin]:
        """The bins that have answers."""
        rows = zip(self.counts, self.confidence, self.right, strict=True)
        return [
            Bin(place / CONFIDENCE_BINS, (place + 1) / CONFIDENCE_BINS, count, confidence / count, right / count)
            for place, (count, confidence, right) in enumerate(rows)
            if count
        ]

    def estimate(self, histogram: Sequence[float]) -> float | None:
        """The accuracy to expect of answers whose confidence falls into the 20 bins like `histogram`, if a given
        confidence is right as often as it was here. None where more than a twentieth of them stand in bins of which
        nothing is known."""
        known = [(count, right / n) for count, right, n in zip(histogram, self.right, self.counts, strict=True) if n]
        covered = sum(count for count, _ in known)
        if not covered or covered < 0.95 * sum(histogram):
            return None
        return sum(count * share for count, share in known) / covered
