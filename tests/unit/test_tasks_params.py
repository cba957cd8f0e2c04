"""What events may say in `params`: names are told, values never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.errors import Code, DataFailure
from streamer.inference.tasks.fill_mask import FillMaskParams
from streamer.inference.tasks.params import NoParams, read_params
from streamer.inference.tasks.question_answering import QuestionParams
from streamer.inference.tasks.similarity import CandidateParams
from streamer.inference.tasks.zero_shot import ZeroShotParams
from tests.tiny_models import BERT, tiny
from tests.unit.tasks_kit import model_of, outcomes

SECRET = "hunter2`$.top_k`"


@pytest.mark.parametrize(
    ("kind", "params", "words"),
    [
        (NoParams, {"top_k": 1}, ["'top_k'", "takes none"]),
        (FillMaskParams, {"topk": SECRET}, ["'topk'", "takes top_k"]),
        (FillMaskParams, {"top_k": SECRET}, ["'top_k'", "whole number from 1 to 1000"]),
        (FillMaskParams, {"top_k": 0}, ["'top_k'", "whole number"]),
        (FillMaskParams, {"top_k": True}, ["'top_k'", "whole number"]),
        (QuestionParams, None, ["'question'", "needs"]),
        (QuestionParams, {"question": ""}, ["'question'", "not empty"]),
        (QuestionParams, {"question": [SECRET]}, ["'question'"]),
        (CandidateParams, {"candidates": SECRET}, ["'candidates'", "list"]),
        (CandidateParams, {"candidates": [SECRET, 1]}, ["'candidates'", "list"]),
        (CandidateParams, {"candidates": []}, ["'candidates'", "one or more"]),
        (ZeroShotParams, {"candidate_labels": [""]}, ["'candidate_labels'", "none empty"]),
        (ZeroShotParams, {"hypothesis_template": SECRET}, ["'hypothesis_template'", "{}"]),
        (ZeroShotParams, {"hypothesis_template": "{0.__class__}"}, ["'hypothesis_template'", "{}"]),
        (ZeroShotParams, {"multi_label": SECRET}, ["'multi_label'", "true or false"]),
    ],
)
def test_wrong_params_are_data_failures(kind: Any, params: dict[str, Any] | None, words: list[str]) -> None:
    """The message names the param and what it takes."""
    failure = read_params(kind, params, "juggling")
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.VALIDATE_PARAMS
    assert all(word in failure.message for word in [*words, "juggling"])
    assert "hunter2" not in failure.message


def test_right_params_are_read() -> None:
    """What is left out, or null, is the default."""
    assert read_params(FillMaskParams, {"top_k": 3}, "t") == FillMaskParams(3)
    assert read_params(FillMaskParams, {"top_k": None}, "t") == FillMaskParams()
    assert read_params(NoParams, None, "t") == NoParams()
    assert read_params(ZeroShotParams, {"candidate_labels": ["a"]}, "t") == ZeroShotParams(["a"])


def test_a_wrong_event_fails_alone(tmp_path: Path) -> None:
    """Its neighbours in the same micro-batch are answered."""
    model = model_of(tiny(tmp_path, BERT, "ForQuestionAnswering", labels=("a", "b")), "question-answering")
    found = outcomes(
        model,
        [
            ("the film", None, {"question": "what?"}),
            ("the film", None, {"question": 5}),
            ("the film", None, {}),
            ("the film", "a pair", {"question": "what?"}),
            ("the film", None, {"question": "why?"}),
        ],
    )
    codes = [one.code if isinstance(one, DataFailure) else None for one in found]
    assert codes == [None, Code.VALIDATE_PARAMS, Code.VALIDATE_PARAMS, Code.VALIDATE_TEXT_PAIR, None]
