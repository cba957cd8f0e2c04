"""What holds for every row of the table: its answers are the reference's, and no batch changes them."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamer.errors import DataFailure, ModelError
from streamer.inference.spec import Backend, DType
from tests.answers.rows import ENCODER_TASKS, TOLERANCE, Row, unlike
from tests.answers.shelf import Seen, Served, Shelf

EXAMPLES: Final = 8
NO_OPENVINO: Final = (
    *("fnet", "funnel", "longformer", "pieces-mpnet", "bart-classes", "bart-mnli", "t5-classes", "gpt2-no-pad"),
    *("gpt2-pad-beyond", "gpt2-tokenizer-pads", "llama-no-pad", "mistral-tags", "st-static"),
)
"""How the names of directories begin that OpenVINO can't serve in float32 (the installed one: 2026.4). Another one that
it leaves is a fault, and not a test to be skipped."""
_WRITES: Final = frozenset({"text-generation", "summarization", "translation", "text2text-generation"})


def check_answers(shelf: Shelf, row: Row) -> None:
    """All events in one call say what the reference says of each alone, or the model is refused as the row says."""
    path = shelf.path(row.files)
    try:
        seen = shelf.served(row).run(row.events)
    except Exception as error:
        if not row.refused:
            raise
        missing = [words for words in row.refused if not re.search(words, str(error))]
        assert not missing, f"the message does not say {missing}: {error}"
        assert str(path) in str(error) or "/tmp/streamer-model" not in str(error), f"a temporary path: {error}"
        return
    assert not row.refused or row.may_refuse, f"served, and not refused: {_shown(seen)}"
    assert row.answers is not None
    answer = row.answers(path)
    wrong = []
    unanswered = 0
    for event, one in zip(row.events, seen, strict=True):
        try:
            expected = answer(event)
        except Exception as error:  # the reference has no answer: nor may the product
            unanswered += 1
            found = "" if isinstance(one, DataFailure) else f": {one!r:.200}, where the reference has {error!r:.100}"
        else:
            found = unlike(one, expected)
        if found:
            wrong.append(f"{event!r:.120}{found}")
    assert not wrong, f"{len(wrong)} of {len(seen)} answers:\n" + "\n".join(wrong[:6])
    failed = sum(isinstance(one, DataFailure) for one in seen)
    batches = shelf.served(row).batches
    assert failed or batches <= len(seen), f"{batches} forward batches for {len(seen)} events: some can never run"
    assert unanswered * 2 < len(seen), "the reference answers too few of the events"


def check_batches(shelf: Shelf, row: Row, backend: Backend, dtype: DType) -> None:
    """Any batch in any order says what each event alone does."""
    try:
        served = shelf.served(row, backend, dtype)
    except ModelError as error:
        if row.refused:
            pytest.skip(str(error))
        lower = dtype == "auto" and "too far" in str(error)  # another processor's may be near enough
        if backend == "openvino" and (lower or row.task == "fill-mask" or row.files.name.startswith(NO_OPENVINO)):
            pytest.skip(str(error))
        raise
    alone = served.alone
    exact = served.model.card.dtype == "float32"
    if exact:  # a faster way has the answers of the plain one, which the table holds to the reference
        for event, one, plain in zip(row.events, alone, shelf.served(row).alone, strict=True):
            found = _unlike(served, row.task, one, plain, exact)
            assert not found, f"{event!r:.120} is answered otherwise by torch in float32{found}"

    @settings(
        max_examples=EXAMPLES if row.task in ENCODER_TASKS or row.task == "scoring" else EXAMPLES // 2,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(plans(len(alone)), st.sampled_from([0, 16, 200]))
    def law(batches: list[list[int]], batch_tokens: int) -> None:
        for batch in batches:
            seen = served.run([served.events[index] for index in batch], batch_tokens)
            for index, one in zip(batch, seen, strict=True):
                found = _unlike(served, row.task, one, alone[index], exact)
                assert not found, f"{served.events[index]!r:.120} in {batch}{found}"

    law()


@st.composite
def plans(draw: st.DrawFn, count: int) -> list[list[int]]:
    """Batches of the events of these numbers, some twice and some never."""
    events = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=2 * count))
    cuts = sorted(draw(st.sets(st.integers(1, len(events)), max_size=3)))
    return [part for first, last in zip([0, *cuts], [*cuts, len(events)], strict=True) if (part := events[first:last])]


def _unlike(served: Served, task: str, seen: Seen, alone: Seen, exact: bool) -> str:
    if isinstance(alone, DataFailure) or isinstance(seen, DataFailure):
        same = isinstance(alone, DataFailure) and isinstance(seen, DataFailure) and alone.code is seen.code
        return "" if same else f": {seen!r:.200}, not {alone!r:.200}"
    if exact:
        return unlike(seen, alone, TOLERANCE)
    # In a lower precision a choice of the likeliest may be another one, but not by more than the tolerance. What is
    # written is a chain of choices: how it goes on hangs on the first that differs.
    if task in _WRITES:
        counted = ("source_tokens", "prompt_tokens")
        return unlike(seen, {name: alone[name] for name in counted if name in alone})
    tolerance = served.model.card.tolerance
    if task == "embedding":
        return "" if _cosine(seen["vector"], alone["vector"]) >= 1 - tolerance else ": another vector"
    if task == "token-classification":  # those that both have
        places = {(one["start"], one["end"], one["label"]): one for one in alone["entities"]}
        both = [(one, places.get((one["start"], one["end"], one["label"]), one)) for one in seen["entities"]]
        off = [abs(one["score"] - other["score"]) for one, other in both]
        return "" if max(off, default=0.0) <= tolerance else f": scores differ by {max(off)}"
    if task == "question-answering":  # of two ends
        tolerance *= 2
    if task == "scoring":
        pairs = zip(_scores(seen["per_token"]), _scores(alone["per_token"]), strict=True)
        off = [abs(one - other) for one, other in pairs]
        return "" if not off or sum(off) / len(off) <= tolerance else f": {sum(off) / len(off)} nats a token"
    # The n-th best of many numbers moves by no more than the most that one of them does.
    off = [abs(one - other) for one, other in zip(_scores(seen), _scores(alone), strict=False)]
    return "" if max(off, default=0.0) <= tolerance else f": scores differ by {max(off)}"


def _scores(output: Any) -> list[float]:
    """All scores of an output, best first."""
    if isinstance(output, list):
        return sorted((score for one in output for score in _scores(one)), reverse=True)
    if isinstance(output, dict):
        return sorted(
            (score for name, value in output.items() if name not in ("ranking", "labels") for score in _scores(value)),
            reverse=True,
        )
    return [output] if isinstance(output, float) else []


def _cosine(one: list[float], other: list[float]) -> float:
    import numpy as np

    return float(np.dot(one, other) / max(1e-30, np.linalg.norm(one) * np.linalg.norm(other)))


def _shown(seen: list[Seen]) -> str:
    return repr(seen[:2])[:300]


def ways(rows: list[Row], *, plain: bool = False, every: bool = False) -> list[Any]:
    """Every row in float32 by torch; by OpenVINO, which runs the network alone, the first row of each task, or with
    `plain` none. `every` is by every backend and dtype."""
    seen: set[str] = set()

    def is_new(row: Row) -> bool:
        new = row.task not in seen
        seen.add(row.task)
        return new

    return [
        pytest.param(row, backend, dtype, id=f"{row.name}-{backend}-{dtype}")
        for row in rows
        if not row.refused or row.may_refuse
        for backend in (
            ("torch", "openvino")
            if row.task in ENCODER_TASKS and (every or (row.openvino and not plain and is_new(row)))
            else ("torch",)
        )
        for dtype in (("float32", "auto") if every else ("float32",))
    ]
