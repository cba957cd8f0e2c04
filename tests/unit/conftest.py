"""What every unit test gets."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from streamer.inference.models import kept


@pytest.fixture
def kept_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the test's workers keep what they find out; made by the first that does."""
    return tmp_path_factory.getbasetemp() / f"kept-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _keep_apart(monkeypatch: pytest.MonkeyPatch, kept_root: Path) -> None:
    """Nothing that a test finds out about a model reaches the user's own cache, or comes from there."""
    monkeypatch.setattr(kept, "root", lambda: kept_root)


@pytest.fixture
def fewer_checked_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing sets a limit the check at load runs 2,048 tokens: seconds for some, and more than any text of the
    tests that ask for this."""
    monkeypatch.setattr("streamer.inference.backends.check_rows._ENDLESS_TOKENS", 256)
