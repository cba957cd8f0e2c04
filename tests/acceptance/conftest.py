"""Each acceptance test has topics, a group and a configuration of its own on the session's Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Lab
from tests.conftest import Kafka


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    """A lab whose processes and readers end with the test."""
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab
