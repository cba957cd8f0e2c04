"""The confusion matrix of a classifier that gives each text one label."""

from __future__ import annotations

import msgspec

from streamer.core.health.counts import Count, Counts, ratio


class Confusion(msgspec.Struct):
    """`cells[true label][predicted label]` counts texts. Sums of parts are the sum of the whole."""

    cells: dict[str, dict[str, Count]] = {}

    def add(self, truth: str, predicted: str, count: Count = 1) -> None:
        """Count texts whose label is `truth` and that were called `predicted`."""
        row = self.cells.setdefault(truth, {})
        row[predicted] = row.get(predicted, 0) + count

    def labels(self) -> list[str]:
        """All that are true or predicted somewhere, sorted."""
        return sorted({*self.cells, *(predicted for row in self.cells.values() for predicted in row)})

    @property
    def total(self) -> Count:
        """How many texts were counted."""
        return sum(sum(row.values()) for row in self.cells.values())

    @property
    def right(self) -> Count:
        """How many of them have their own label."""
        return sum(row.get(truth, 0) for truth, row in self.cells.items())

    @property
    def accuracy(self) -> float:
        """The share of texts that have their own label; 0 where there is no text."""
        return ratio(self.right, self.total)

    def by_label(self) -> dict[str, Counts]:
        """What each label's precision, recall and F1 follow from."""
        predicted: dict[str, Count] = {}
        for row in self.cells.values():
            for label, count in row.items():
                predicted[label] = predicted.get(label, 0) + count
        found = {}
        for label in self.labels():
            row = self.cells.get(label, {})
            hits = row.get(label, 0)
            found[label] = Counts(hits, predicted.get(label, 0) - hits, sum(row.values()) - hits)
        return found
