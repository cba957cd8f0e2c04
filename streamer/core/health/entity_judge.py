"""Holds the entities that a model found to those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamer.core.health.quality import Quality
from streamer.core.health.spans import Entity, Spans, of_tags
from streamer.core.health.verdict import Verdict, list_of


class EntityJudge:
    """token-classification."""

    value_name = "texts with all entities right"
    lower = False
    needs_label = True

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def read(self, label: Any, text: str) -> list[Entity]:
        """Spans, `[{"start", "end", "label"}]`, or a BIO tag for each word; also as JSON in a string."""
        if isinstance(label, str):
            label = list_of(label)
        if not isinstance(label, list):
            raise ValueError('is not a list, neither of {"start", "end", "label"} nor of BIO tags')
        if label and all(isinstance(each, str) for each in label):
            found = of_tags(label, text)
        elif all(_is_span(each) for each in label):
            found = [Entity(each["start"], each["end"], str(each["label"])) for each in label]
        else:
            raise ValueError('has an entry that is neither {"start", "end", "label"} nor a BIO tag')
        for each in found:
            if not 0 <= each.start < each.end <= len(text):
                raise ValueError(f"has a span {each.start}–{each.end}, and its text {len(text)} characters")
        return [each._replace(label=self._names.get(each.label, each.label)) for each in found]

    def add(self, quality: Quality, truth: list[Entity], output: Mapping[str, Any], key: bytes) -> Verdict:
        """By whole entities."""
        if not isinstance(output.get("entities"), list):
            raise ValueError("can't be compared: the model's answer has no field 'entities'")
        quality.spans = quality.spans or Spans()
        found = [Entity(each["start"], each["end"], str(each["label"])) for each in output["entities"]]
        tp, fp, fn = quality.spans.add(truth, found)
        quality.answered += 1
        right = not fp and not fn
        return Verdict(float(right), fp + fn or -1.0, _entities(truth), _entities(found), 1.0, (tp, fp, fn), right)


def _is_span(value: Any) -> bool:
    return (
        isinstance(value, dict) and all(type(value.get(name)) is int for name in ("start", "end")) and "label" in value
    )


def _entities(entities: Sequence[Entity]) -> str:
    return ", ".join(f"{each.label} {each.start}–{each.end}" for each in entities)
