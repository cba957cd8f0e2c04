"""Labels given and labels true: the confusion matrix of a classifier that gives each text one label, and the counts of
one that gives any number of them."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from streamer.core.health.quality.counts import Count, Counts, ratio


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


class MultiLabel(msgspec.Struct):
    """Sums over texts. `labels` are the counts of each label that is known, also of one that never occurs."""

    labels: dict[str, Counts] = {}
    texts: Count = 0
    exact: Count = 0

    def add(
        self, truth: Collection[str], predicted: Collection[str], known: Collection[str] = (), weight: Count = 1
    ) -> None:
        """Count a text `weight` times. `known` are labels that the model could have given."""
        true, found = frozenset(truth), frozenset(predicted)
        self.texts += weight
        self.exact += weight * (true == found)
        for label in {*true, *found, *known}:
            own = Counts(label in true and label in found, label in found - true, label in true - found)
            self.labels[label] = self.labels.get(label, Counts()).plus(own, weight)

    def by_label(self) -> dict[str, Counts]:
        """What each label's precision, recall and F1 follow from."""
        return {label: Counts(*self.labels[label]) for label in sorted(self.labels)}

    @property
    def subset_accuracy(self) -> float:
        """The share of texts whose labels are all right, and none is missing."""
        return ratio(self.exact, self.texts)

    @property
    def hamming_loss(self) -> float:
        """The share of wrong decisions among all of a text and a label."""
        wrong = sum(fp + fn for _, fp, fn in self.labels.values())
        return ratio(wrong, self.texts * len(self.labels))
