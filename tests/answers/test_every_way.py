"""No batch changes an answer: by the ways that the tests beside this one leave out, which are dtype auto, and OpenVINO
where an earlier row has the task.

`make test` does without; `pytest -m every_way` runs before a change lands.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from streamer.inference.spec import Backend, DType
from tests.answers import (
    table_encoders,
    table_generation,
    table_heads,
    table_language_models,
    table_padding,
    table_sentences,
    table_seq2seq,
    table_tokenizers,
)
from tests.answers.laws import check_batches, ways
from tests.answers.rows import Row
from tests.answers.shelf import Shelf

pytestmark = pytest.mark.every_way

_ROWS: Final[list[Row]] = [
    *table_encoders.ROWS,
    *table_padding.ROWS,
    *table_heads.ROWS,
    *table_sentences.MODULES,
    *table_sentences.FIELDS,
    *table_tokenizers.ROWS,
    *table_seq2seq.ROWS,
    *table_language_models.SCORED,
    *table_language_models.CONTINUED,
    *table_generation.ROWS,
]
_ELSEWHERE: Final = {
    one.id
    for one in (
        *ways(table_encoders.ROWS),
        *ways(table_padding.ROWS),
        *ways(table_tokenizers.ROWS),
        *ways(table_seq2seq.ROWS),
        *ways(table_sentences.MODULES),
        *ways([*table_language_models.SCORED, *table_language_models.CONTINUED]),
        *ways(table_generation.TALKING),
        *ways([*table_heads.ROWS, *table_sentences.FIELDS], plain=True),
    )
}
_LEFT: Final[list[Any]] = [one for one in ways(_ROWS, every=True) if one.id not in _ELSEWHERE]


@pytest.mark.parametrize(("row", "backend", "dtype"), _LEFT)
def test_no_batch_changes_an_answer(shelf: Shelf, row: Row, backend: Backend, dtype: DType) -> None:
    """Any batch, any order."""
    check_batches(shelf, row, backend, dtype)
