"""How right a classifier is that gives each text any number of labels."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from streamer.core.health.counts import Count, Counts, ratio


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
