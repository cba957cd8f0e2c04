"""Hold answers to questions, and longer texts, to references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.core.health.judges.verdict import SHOWN_CHARS, Verdict, list_of
from streamer.core.health.quality.evidence import Answer, Text
from streamer.core.health.quality.overlap import Overlap


class AnswerJudge:
    """question-answering."""

    value_name = "word F1"
    lower = False
    needs_label = True
    known: frozenset[str] = frozenset()

    def read(self, label: Any, text: str | None) -> list[str]:
        """A text, a list of texts, or SQuAD's `{"text": [...]}`; empty where the text has no answer."""
        return _references(label["text"] if isinstance(label, dict) and "text" in label else label)

    def hold(self, truth: list[str], output: Mapping[str, Any]) -> tuple[Answer, Verdict]:
        """Compare by exact match and by words."""
        if not isinstance(answer := output.get("answer"), str):
            raise ValueError("can't be compared: the model's answer has no field 'answer'")
        sums = Overlap()
        value = sums.add_answer(answer, truth)
        return Answer(sums), Verdict(value, -value, " | ".join(truth)[:SHOWN_CHARS], answer[:SHOWN_CHARS])


class TextJudge:
    """summarization, translation and generation."""

    value_name = "ROUGE-L"
    lower = False
    needs_label = True
    known: frozenset[str] = frozenset()

    def read(self, label: Any, text: str | None) -> list[str]:
        """A reference, or a list of them."""
        if not (found := _references(label)):
            raise ValueError("is an empty list: a text is compared with at least one reference")
        return found

    def hold(self, truth: list[str], output: Mapping[str, Any]) -> tuple[Text, Verdict]:
        """Compare by words."""
        if not isinstance(text := output.get("text"), str):
            raise ValueError("can't be compared: the model's answer has no field 'text'")
        sums = Overlap()
        value = sums.add_text(text, truth)
        return Text(sums), Verdict(value, -value, " | ".join(truth)[:SHOWN_CHARS], text[:SHOWN_CHARS])


def _references(label: Any) -> list[str]:
    if isinstance(label, str) and label.startswith('["') and label.endswith('"]'):
        label = list_of(label)
    found = [label] if isinstance(label, str) else label
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("is neither a text nor a list of texts")
    return list(found)
