"""Holds the entities that a model found to those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamer.core.health.judges.verdict import Verdict, list_of
from streamer.core.health.quality.evidence import Entities
from streamer.core.health.quality.spans import Entity, Spans, of_tags


class EntityJudge:
    """token-classification."""

    value_name = "texts with all entities right"
    lower = False
    needs_label = True
    known: frozenset[str] = frozenset()

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def read(self, label: Any, text: str | None) -> list[Entity]:
        """Spans, `[{"start", "end", "label"}]`, or a BIO tag for each word; also as JSON in a string."""
        if isinstance(label, str):
            label = list_of(label)
        if not isinstance(label, list):
            raise ValueError('is not a list, neither of {"start", "end", "label"} nor of BIO tags')
        if label and all(isinstance(each, str) for each in label):
            if text is None:
                raise ValueError("has tags for the words of a text that is not known here")
            found = of_tags(label, text)
        elif all(_is_span(each) for each in label):
            found = [Entity(each["start"], each["end"], str(each["label"])) for each in label]
        else:
            raise ValueError('has an entry that is neither {"start", "end", "label"} nor a BIO tag')
        for each in found:
            if not 0 <= each.start < each.end <= (each.end if text is None else len(text)):
                words = "which is none" if text is None else f"and its text {len(text)} characters"
                raise ValueError(f"has a span {each.start}–{each.end}, {words}")
        return [each._replace(label=self._names.get(each.label, each.label)) for each in found]

    def hold(self, truth: list[Entity], output: Mapping[str, Any]) -> tuple[Entities, Verdict]:
        """Compare whole entities."""
        if not isinstance(output.get("entities"), list):
            raise ValueError("can't be compared: the model's answer has no field 'entities'")
        found = [Entity(each["start"], each["end"], str(each["label"])) for each in output["entities"]]
        sums = Spans()
        tp, fp, fn = sums.add(truth, found)
        right = not fp and not fn
        cell = int(tp), int(fp), int(fn)
        verdict = Verdict(float(right), fp + fn or -1.0, _entities(truth), _entities(found), 1.0, cell, right)
        return Entities(sums), verdict


def _is_span(value: Any) -> bool:
    return (
        isinstance(value, dict) and all(type(value.get(name)) is int for name in ("start", "end")) and "label" in value
    )


def _entities(entities: Sequence[Entity]) -> str:
    return ", ".join(f"{each.label} {each.start}–{each.end}" for each in entities)
