"""What files ask of generation: every answer is the reference's, and no batch changes one."""

from __future__ import annotations

import pytest

from streamer.inference.spec import DType
from tests.answers.laws import check_answers, check_batches, ways
from tests.answers.rows import Row
from tests.answers.shelf import Shelf
from tests.answers.table_generation import ROWS, TALKING


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_answers_are_the_references(shelf: Shelf, row: Row) -> None:
    """Of each text alone, though all share batches."""
    check_answers(shelf, row)


@pytest.mark.parametrize(("row", "backend", "dtype"), ways(TALKING))
def test_no_batch_changes_an_answer(shelf: Shelf, row: Row, backend: str, dtype: DType) -> None:
    """Any batch, any order."""
    check_batches(shelf, row, "torch", dtype)
