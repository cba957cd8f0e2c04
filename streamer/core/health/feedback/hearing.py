"""Compares feedback with results, by the judges of `streamer evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streamer.core.health.feedback.feedback import Feedback
from streamer.core.health.judges.by_task import judge_of
from streamer.core.health.judges.entities import EntityJudge
from streamer.core.health.judges.labels import LabelJudge
from streamer.core.health.judges.numbers import NumberJudge
from streamer.core.health.judges.texts import AnswerJudge, TextJudge
from streamer.core.health.judges.verdict import Judge
from streamer.core.health.quality.evidence import Evidence, One, Several

MOST_LABELS: Final = 1_000
"""Names that people give as right, of a revision: who takes texts for labels must not fill the memory."""
THRESHOLD: Final = 0.5
"""Where a text may have several labels, one counts as given from this score on."""


class Hearing:
    """The judges of all tasks."""

    def __init__(self) -> None:
        self._judges: dict[str, Judge] = {}
        self._names: dict[tuple[str, str], dict[str, str]] = {}

    def hold(self, pipeline: str, revision: str, task: str, feedback: Feedback, output: Any) -> Evidence | None:
        """What feedback says of an answer; None where the two can't be compared."""
        judge = self._judges.get(task)
        if judge is None:
            # A model that answers with labels is judged by them, whatever its task is called.
            judge = self._judges[task] = judge_of(task, {}, THRESHOLD) or LabelJudge({}, THRESHOLD)
        try:
            evidence = _held(judge, feedback, output) if isinstance(output, dict) else None
        except (ValueError, KeyError, TypeError, AttributeError):  # of another program, or of a class of the user's own
            return None
        return self._named((pipeline, revision), evidence)

    def _named(self, own: tuple[str, str], evidence: Evidence | None) -> Evidence | None:
        """The same with each name held in memory once; None where there are too many."""
        if not isinstance(evidence, One | Several):
            return evidence
        names = self._names.setdefault(own, {})
        if isinstance(evidence, One):
            given, true = [evidence.predicted], [evidence.truth]
        else:
            given, true = [*evidence.scores], evidence.truth
        for name in (*given, *true):
            names.setdefault(name, name)
            if len(names) > MOST_LABELS:
                del names[name]
                return None
        if isinstance(evidence, One):
            return One(names[evidence.truth], names[evidence.predicted], evidence.score)
        scores = {names[name]: score for name, score in evidence.scores.items()}
        return Several([names[name] for name in true], [names[name] for name in evidence.predicted], scores)


def _held(judge: Judge, feedback: Feedback, output: Mapping[str, Any]) -> Evidence | None:
    """Compare by the field that holds labels of the judge's kind; nothing is guessed from another one."""
    match judge:
        case LabelJudge() if feedback.label is not None:
            return judge.one(feedback.label, output)[0]
        case LabelJudge() if feedback.labels is not None:
            return judge.several(sorted(set(feedback.labels)), output)[0]
        case LabelJudge() if feedback.score is not None:
            return judge.number(feedback.score, output)[0]
        case EntityJudge() if feedback.entities is not None:
            return judge.hold(judge.read(msgspec.to_builtins(feedback.entities), None), output)[0]
        case AnswerJudge() | TextJudge() if feedback.text is not None:
            return judge.hold([feedback.text], output)[0]
        case NumberJudge() if feedback.score is not None:
            return judge.hold(judge.read(feedback.score, None), output)[0]
    return None
