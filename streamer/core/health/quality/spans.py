"""How right named entities are, by whole entities and not by tokens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from streamer.core.health.quality.counts import Count, Counts, Scores, ratio, summed


class Entity(NamedTuple):
    """Characters `start` to `end` (not included) of a text are a `label`."""

    start: int
    end: int
    label: str


class Spans(msgspec.Struct):
    """Sums over texts. An entity is right if its label and both borders are; `overlaps` counts pairs with the same
    label that only overlap. An entity is in one pair at most."""

    labels: dict[str, Counts] = {}
    overlaps: Count = 0
    texts: Count = 0
    exact: Count = 0

    def add(self, truth: Iterable[Entity], predicted: Iterable[Entity]) -> Counts:
        """Count a text; returns what it added, all labels together."""
        true, found = Counter(truth), Counter(predicted)
        hits = true & found
        missed, wrong = true - hits, found - hits
        self.texts += 1
        self.exact += not missed and not wrong
        added = []
        for label in {each.label for each in (*true, *found)}:
            own = Counts(*(sum(n for each, n in some.items() if each.label == label) for some in (hits, wrong, missed)))
            self.labels[label] = self.labels.get(label, Counts()).plus(own)
            added.append(own)
            self.overlaps += _overlaps(
                *(sorted(e for e in some.elements() if e.label == label) for some in (missed, wrong))
            )
        return summed(added)

    def include(self, other: Spans, weight: Count = 1) -> None:
        """Add sums, `weight` times."""
        for label, counts in other.labels.items():
            self.labels[label] = self.labels.get(label, Counts()).plus(counts, weight)
        self.overlaps += weight * other.overlaps
        self.texts += weight * other.texts
        self.exact += weight * other.exact

    def by_label(self) -> dict[str, Counts]:
        """What each label's precision, recall and F1 follow from."""
        return {label: Counts(*self.labels[label]) for label in sorted(self.labels)}

    @property
    def partial(self) -> Scores:
        """Precision, recall and F1 over all labels where an entity that only overlaps counts half."""
        total = summed(self.by_label().values())
        hits = total.tp + self.overlaps / 2
        predicted, true = total.tp + total.fp, total.tp + total.fn
        return Scores(ratio(hits, predicted), ratio(hits, true), ratio(2 * hits, predicted + true))

    @property
    def texts_right(self) -> float:
        """The share of texts with all entities right, and none too many."""
        return ratio(self.exact, self.texts)


def _overlaps(missed: Sequence[Entity], wrong: Sequence[Entity]) -> int:
    """Pairs from left to right: the most there can be where the entities of a side do not overlap one another."""
    pairs = first = second = 0
    while first < len(missed) and second < len(wrong):
        a, b = missed[first], wrong[second]
        if a.start < b.end and b.start < a.end:
            pairs += 1
            first += 1
            second += 1
        elif (a.end, a.start) < (b.end, b.start):
            first += 1
        else:
            second += 1
    return pairs


_WORD = re.compile(r"\S+")


def of_tags(tags: Sequence[str], text: str) -> list[Entity]:
    """The entities of BIO tags (`B-PER`, `I-PER`, `O`), one for each word of the text between white space.

    An `I-` that goes on with nothing of its label begins an entity, as in the evaluation of CoNLL. Raises ValueError,
    with words for who wrote the tags, where their number is another or one is none.
    """
    words = [found.span() for found in _WORD.finditer(text)]
    if len(words) != len(tags):
        raise ValueError(f"has {len(tags)} tags, and its text {len(words)} words")
    entities: list[Entity] = []
    open_label = ""
    for tag, (start, end) in zip(tags, words, strict=True):
        prefix, _, label = tag.partition("-")
        if tag == "O":
            open_label = ""
        elif prefix not in ("B", "I") or not label:
            raise ValueError(f"has the tag {tag!r}, which is none of O, B-LABEL and I-LABEL")
        elif prefix == "I" and label == open_label:
            entities[-1] = entities[-1]._replace(end=end)
        else:
            entities.append(Entity(start, end, label))
            open_label = label
    return entities
