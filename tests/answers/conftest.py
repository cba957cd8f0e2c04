"""What the tests of the table share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.inference.backends import check_rows
from streamer.inference.models import kept
from tests.answers.shelf import Shelf


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The libraries warn of much that the rows do on purpose."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """The directories and models of a test's file."""
    with pytest.MonkeyPatch.context() as patch:
        # Nothing that is found out about a model reaches the user's own cache, or comes from there.
        root = tmp_path_factory.mktemp("kept")
        patch.setattr(kept, "root", lambda: root)
        # Where nothing sets a limit the check at load runs 2,048 tokens: seconds for some, and more than any text here.
        patch.setattr(check_rows, "_ENDLESS_TOKENS", 256)
        shelf = Shelf(tmp_path_factory.mktemp("models"))
        yield shelf
        shelf.close()
